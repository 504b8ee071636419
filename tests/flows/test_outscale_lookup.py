"""The `outscale-omi` lookup as a command and as a function."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from blocks.errors import DefinitionError
from flows.outscale_lookup import look_up
from tests.conftest import Tune
from tests.tasks.outscale.box import Box, opened

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def box(tmp_path: Path, tune: Tune, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Box]:
    async with opened(tmp_path / "region", tune) as box:
        monkeypatch.setenv("OSC_ACCESS_KEY", box.owner.access_key)
        monkeypatch.setenv("OSC_SECRET_KEY", box.owner.secret_key)
        monkeypatch.setenv("OSC_ENDPOINT_API", box.served.api)
        yield box


async def command(*words: str) -> subprocess.CompletedProcess[str]:
    import asyncio

    argv = [sys.executable, "-m", "flows.outscale_lookup", *words]
    env = dict(os.environ)
    return await asyncio.to_thread(
        subprocess.run, argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


async def test_the_command_prints_the_id_alone(box: Box) -> None:
    done = await command("--owner", "self", "--filter", "image-name=ba*")
    assert (done.returncode, done.stdout) == (0, f"{(await box.source()).image_id}\n"), done.stderr
    done = await command("--owner", "000000000001", "--json")
    assert json.loads(done.stdout)["name"] == "public"


async def test_the_command_says_what_is_wrong(box: Box) -> None:
    done = await command("--owner", "self", "--filter", "image_name=x")
    assert done.returncode == 2
    assert "is it image-name?" in done.stderr
    done = await command("--owner", "self", "--filter", "name=none")
    assert done.returncode == 1
    assert "no OMI matches" in done.stderr


async def test_the_function(box: Box) -> None:
    found = await look_up({"owners": ["self"], "filters": {"name": "base"}})
    assert (found.name, found.owner) == ("base", box.owner.account_id)
    with pytest.raises(DefinitionError, match="owners"):
        await look_up({"filters": {"name": "base"}})
