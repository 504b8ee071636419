"""The official TypeScript client (`@oxide/api`), unedited, makes a whole build's calls."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.emulators.oxide.kitchen import GIB, Client

_HERE = Path(__file__).with_name("typescript")
_CACHE = Path(__file__).parents[3] / "var" / "npm"


@pytest.fixture(scope="session")
def modules() -> Path:
    """Where the client's package is installed, as the lock file says; once for all test runs."""
    if shutil.which("node") is None:
        pytest.skip("no Node: `node` is not on PATH")
    lock = (_HERE / "package-lock.json").read_bytes()
    directory = _CACHE / hashlib.sha256(lock).hexdigest()[:16]
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (directory / "done").exists():
            for name in ("package.json", "package-lock.json", ".npmrc"):
                shutil.copy(_HERE / name, directory)
            # Where there is Node and this fails, so do the tests: a skip would hide it from CI.
            subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=directory, check=True)
            (directory / "done").touch()
    return directory


async def test_the_official_client_makes_a_whole_build(client: Client, modules: Path) -> None:
    # fmt: off
    process = await asyncio.create_subprocess_exec(
        "node", _HERE / "build.mjs", str(client.http.base_url).rstrip("/"), client.region.token, modules,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "NO_PROXY": "*"},
    )
    # fmt: on
    output, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, errors.decode()
    seen = json.loads(output)
    project = seen.pop("project")
    assert seen == {
        "silo": "box",
        "silo_admin": True,
        "kinds": ["snat", "ephemeral", "floating"],
        "primary": True,
        "stack": "v4",
        "serial": "boot\r\n",
        "promoted": None,
        "demoted": project,
        "digest": None,
        "disk": "detached",
        "names": ["built"],
        "provisioned": {"cpus": 0, "memory": 0, "storage": GIB},
        "time": True,
    }
    assert (await client.get("/v1/snapshots", project="bakery"))["items"][0]["name"] == "imported"
