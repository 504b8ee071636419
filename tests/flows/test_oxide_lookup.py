"""`python -m flows.oxide_lookup`, and its flow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from blocks.errors import CredentialsError, DefinitionError
from blocks.references import SecretReference
from flows.oxide_lookup import find_oxide_image, look_up
from tests.conftest import RegionInABox

ROOT = Path(__file__).parents[2]


async def command(region: RegionInABox, *words: str, **more: str) -> tuple[int, str, str]:
    import asyncio

    env = {"PATH": "/usr/bin:/bin", "OXIDE_HOST": region.api, "OXIDE_TOKEN": region.token.get_secret_value(), **more}
    argv = [sys.executable, "-m", "flows.oxide_lookup", *words]
    child = await asyncio.create_subprocess_exec(
        *argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await child.communicate()
    return int(child.returncode or 0), out.decode(), err.decode()


async def test_the_command_prints_the_id_alone(region: RegionInABox, tmp_path: Path) -> None:
    async with region.client() as client:
        image = await client.image("tiny")
    assert await command(region, "tiny", HOME=str(tmp_path)) == (0, f"{image.id}\n", "")
    code, out, err = await command(region, "tini", HOME=str(tmp_path))
    assert (code, out) == (1, "")
    assert "the silo has: tiny" in err
    code, out, err = await command(region, "Tiny", "--project", "bakery", HOME=str(tmp_path))
    assert (code, out) == (2, "")
    assert "lower-case" in err


async def test_as_a_function(region: RegionInABox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OXIDE_HOST", "OXIDE_TOKEN", "OXIDE_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OWN", region.token.get_secret_value())
    async with region.client() as client:
        image = await client.image("tiny")
    assert await look_up("tiny", host=region.api, token=SecretReference(env="OWN")) == image.id
    with pytest.raises(CredentialsError):
        await look_up("tiny")
    with pytest.raises(DefinitionError) as caught:
        await look_up("UP", "NOT A PROJECT")
    assert [mistake.option for mistake in caught.value.mistakes] == ["name", "project"]


def test_the_flows_form_takes_no_secret() -> None:
    properties = find_oxide_image.parameters.properties
    assert set(properties) >= {"name", "project", "credentials", "token"}
    assert find_oxide_image.name == "find-oxide-image"
