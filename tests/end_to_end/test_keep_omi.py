"""Builds of an OMI that fail and are kept: gone on with by another process of the VM, with what the volume has had."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.test_keep import COUNTED, SHOWN, counted, mend, run_to_resume
from tests.end_to_end.world import ROOT, OutscaleRegion, Prefect, account, write_definition


def bake(build: Path, env: Mapping[str, str], *more: str, code: int) -> str:
    argv = [sys.executable, "-m", "flows.outscale_image", str(build), *more]
    done = subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def kept_definition(region: OutscaleRegion, directory: Path, **options: Any) -> Path:
    (directory / "second.sh").write_text("#!/bin/sh\necho not yet; exit 3\n", encoding="utf-8")
    second = {"type": "shell", "name": "second", "script": "second.sh"}
    # What happens to the disk and its file systems happens once, too.
    once = {"post_mount_commands": ["echo mounted >> {{.MountPath}}/root/mounted; cat {{.MountPath}}/root/mounted"]}
    definition = region.definition(COUNTED, second, SHOWN, **{"on_error": "keep", **once, **options})
    return write_definition(directory / "build.yaml", definition)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("linked", [False, True])
def test_another_process_goes_on_with_a_kept_volume(
    outscale: OutscaleRegion, prefect: Prefect, tmp_path: Path, linked: bool
) -> None:
    build = kept_definition(outscale, tmp_path, keep_linked=linked)
    first = {**account(tmp_path / "first", prefect), **outscale.env}
    second = {**account(tmp_path / "second", prefect), **outscale.env}
    said = bake(build, first, code=1)
    assert "is kept until" in said
    left = outscale.made()
    assert set(left) == ({"volumes", "devices"} if linked else {"volumes"}), json.dumps(left)
    mend(tmp_path)
    again = bake(build, second, "--resume", run_to_resume(said), code=0)
    assert counted(again) == 1
    assert "[second] mended" in again
    assert len(re.findall(r"\[post-mount\] mounted", said + again)) == 1
    assert set(outscale.made()) == {"images", "snapshots"}


@pytest.mark.timeout(240)
def test_what_is_kept_can_be_removed(outscale: OutscaleRegion, prefect: Prefect, tmp_path: Path) -> None:
    build = kept_definition(outscale, tmp_path, keep_linked=True)
    env = {**account(tmp_path / "home", prefect), **outscale.env}
    run = run_to_resume(bake(build, env, code=1))
    assert "nothing of it is left" in bake(build, env, "--clean-up", run, code=0)
    assert outscale.made() == {}
