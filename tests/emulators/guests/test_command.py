"""The command that builds guests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.tasks.chroot.cellar import until

_MMDEBSTRAP = """#!/bin/sh
trap 'touch "$TOLD/ended"; kill $!; exit 1' TERM
touch "$TOLD/begun"
sleep 100 & wait
"""


def test_a_build_that_is_told_to_end_tells_its_program_and_leaves_nothing(tmp_path: Path) -> None:
    """It is mmdebstrap that takes away what it has mounted, so it must not be left alone with it."""
    program, output = tmp_path / "bin/mmdebstrap", tmp_path / "guests"
    program.parent.mkdir()
    program.write_text(_MMDEBSTRAP)
    program.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "emulators.guests", "build", "debian", "--output", output],
        env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "TOLD": str(tmp_path)},
        start_new_session=True,
    )
    try:
        until((tmp_path / "begun").exists, 60)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert (tmp_path / "ended").exists()
    assert [path.name for path in output.iterdir()] == [".debian.lock"]
