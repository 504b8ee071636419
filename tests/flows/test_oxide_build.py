"""Whole builds with the options that change what a build makes, by the command, on cheap machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.world import ROOT, OxideRegion, oxide_region, write_definition


def bake(region: OxideRegion, directory: Path, **options: Any) -> tuple[dict[str, Any], str]:
    """The artifact and the log of a build that has to succeed."""
    build = write_definition(directory / "build.yaml", region.definition(**options))
    artifact = directory / "artifact.json"
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "PREFECT_HOME": str(directory / "prefect"),
        "IMAGE_BAKERY_STATE_DIR": str(directory / "bakery"),
        "DO_NOT_TRACK": "1",
    }
    argv = [sys.executable, "-m", "flows.oxide_image", str(build), "--artifact", str(artifact)]
    done = subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(artifact.read_text(encoding="utf-8"))
    return found, done.stdout + done.stderr


@pytest.mark.timeout(900)
def test_a_build_without_an_image_and_one_that_replaces_another(tmp_path: Path, tiny: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("cheap machines need root's rights")
    with oxide_region(tmp_path, tiny, "cheap") as region:
        artifact, said = bake(
            region,
            tmp_path,
            skip_create_image=True,
            user_data="#cloud-config\n",
            extra_disks=[{"name": "data", "size": "1GiB"}],
            provisioners=[{"type": "shell", "name": "ask", "inline": ["echo it is $BAKERY_SOURCE_IMAGE_NAME"]}],
        )
        assert (artifact["id"], artifact["source_image_name"]) == (None, "tiny")
        assert "[ask] it is tiny" in said
        assert "none (skip_create_image)" in said
        assert region.made() == {}

        first, said = bake(region, tmp_path, artifact_name="web", force=True, promote=True)
        assert "make stand-in image" not in said
        second, said = bake(region, tmp_path, artifact_name="web", force=True, promote=True)
        assert "remove former image" in said
        assert (first["name"], second["name"], second["project"]) == ("web", "web", None)
        (image,) = region.made()["images"]
        assert (image["id"], image["project"]) == (second["id"], None)
        assert set(region.made()) == {"images"}
        assert first["id"] != second["id"]
