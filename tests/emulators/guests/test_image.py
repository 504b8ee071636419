from __future__ import annotations

from pathlib import Path

import pytest

from emulators.guests.image import Image, build_image, read_image

_IMAGE = Image("tiny", "for tests", "tiny", "1")


def _build(directory: Path, work: Path) -> Image:
    (work / "temporary").write_text("")
    (directory / "disk.raw").write_text("new")
    return _IMAGE


def test_built_once_and_again_for_another_stamp(tmp_path: Path) -> None:
    target = tmp_path / "tiny"
    assert [build_image(target, stamp, _build) for stamp in ("a", "a", "b")] == [True, False, True]
    assert read_image(target) == _IMAGE
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tiny.lock", "tiny"]


def test_a_failed_build_leaves_the_old_image(tmp_path: Path) -> None:
    def fail(directory: Path, work: Path) -> Image:
        (directory / "disk.raw").write_text("half")
        raise KeyboardInterrupt

    target = tmp_path / "tiny"
    build_image(target, "a", _build)
    with pytest.raises(KeyboardInterrupt):
        build_image(target, "b", fail)
    assert (target / "disk.raw").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tiny.lock", "tiny"]
