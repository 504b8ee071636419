from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tasks import begun
from tasks.scratch import builds_directory, scratch
from tests.conftest import Tune
from tests.end_to_end.world import ROOT
from tests.tasks.support import mark_of

HOLDS = """
import signal, sys
from pathlib import Path
from uuid import UUID
from tasks.scratch import scratch
with scratch(UUID(sys.argv[1]), 1, Path(sys.argv[2])) as directory:
    (directory / "script.sh").write_text("echo a secret")
    print(directory, flush=True)
    signal.pause()
"""


def test_a_scratch_is_private_and_goes_with_its_block(tune: Tune, tmp_path: Path) -> None:
    with scratch(uuid4(), 1, tmp_path) as directory:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        (directory / "file").touch()
    assert not list(tmp_path.glob("image-bakery-*"))


def test_of_a_line_that_was_cut_nothing_is_removed(tune: Tune, tmp_path: Path) -> None:
    run, others = uuid4(), tmp_path / "others"
    others.mkdir()
    with scratch(run, 1, tmp_path):
        (noted,) = builds_directory().iterdir()
    noted.write_text(f"{others}\n{tmp_path}/image-bakery-01234567\n{others}")
    (tmp_path / "image-bakery-01234567").mkdir()
    begun.end(run, 1)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bakery-state", "image-bakery-01234567", "others"]


@pytest.mark.parametrize("attempt", [1, 2])
def test_what_a_killed_build_left_there_goes_when_its_attempt_is_over(tune: Tune, tmp_path: Path, attempt: int) -> None:
    mark = mark_of()
    begun.begin(mark, {"cloud": "oxide", "host": "h", "project": "p"})
    killed = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(mark.run), str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    with killed:
        assert killed.stdout is not None
        directory = Path(killed.stdout.readline().strip())
        killed.kill()
    assert [each.name for each in directory.iterdir()] == ["script.sh"]
    begun.end(uuid4(), attempt)
    assert directory.exists()
    begun.end(mark.run, attempt)
    assert not directory.exists()
    assert not list(builds_directory().iterdir())
    begun.end(mark.run, attempt)
