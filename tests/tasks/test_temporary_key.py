from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from blocks.errors import ProvisionerFailed
from tasks.communicator import Output
from tasks.ssh.temporary_key import forget_key, public_line, temporary_key

TOKEN, RUN = SecretStr("oxide-token-1"), uuid4()
KEY = temporary_key(TOKEN, RUN)
OTHER = temporary_key(TOKEN, uuid4())


class HereWithHome:
    """A communicator to this host, where the user's home is another directory."""

    def __init__(self, home: Path) -> None:
        self._home = home

    async def run(self, command: str, output: Output) -> int:
        process = await asyncio.create_subprocess_exec(
            "sh",
            "-c",
            command,
            env={"HOME": str(self._home), "PATH": os.environ["PATH"]},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output((await process.communicate())[0])
        return await process.wait()

    async def upload(self, source: Path | bytes, destination: str, mode: int) -> None:
        raise NotImplementedError

    async def upload_directory(self, source: Path, destination: str) -> None:
        raise NotImplementedError

    async def download(self, source: str, destination: Path) -> None:
        raise NotImplementedError

    async def download_directory(self, source: str, destination: Path) -> None:
        raise NotImplementedError


@pytest.fixture
def authorized(tmp_path: Path) -> Path:
    file = tmp_path / ".ssh/authorized_keys"
    file.parent.mkdir()
    return file


def test_another_process_with_the_same_token_has_the_same_key() -> None:
    again = temporary_key(SecretStr("oxide-token-1"), RUN)
    assert again == KEY
    assert public_line(again) == public_line(KEY)
    assert again.sign_ssh_data(b"x").asbytes() == KEY.sign_ssh_data(b"x").asbytes()


def test_another_run_or_token_has_another_key() -> None:
    keys = {public_line(key) for key in (KEY, OTHER, temporary_key(SecretStr("oxide-token-2"), RUN))}
    assert len(keys) == 3


def test_the_public_line_is_that_of_authorized_keys() -> None:
    kind, blob = public_line(KEY).split(" ")
    assert kind == "ssh-ed25519"
    assert base64.b64decode(blob) == KEY.asbytes()
    assert "oxide" not in public_line(KEY)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{key} image-bakery\n", None),
        ("{key}", None),
        ("{key}\n{key} twice\n", None),
        ("{other} a\n{key} b\n# comment\n", "{other} a\n# comment\n"),
        ('no-pty,command="x" {key}\n{other}', "{other}\n"),
        ("{other} {key_comment}\n", "{other} {key_comment}\n"),
        ("{other}\n\n", "{other}\n\n"),
    ],
)
async def test_only_that_key_is_forgotten(authorized: Path, tmp_path: Path, before: str, after: str | None) -> None:
    words = {"key": public_line(KEY), "other": public_line(OTHER), "key_comment": "image-bakery"}
    authorized.write_text(before.format(**words))
    authorized.chmod(0o600)
    await forget_key(HereWithHome(tmp_path), KEY)
    if after is None:
        assert not authorized.exists()
    else:
        assert authorized.read_text() == after.format(**words)
        assert authorized.stat().st_mode & 0o777 == 0o600


async def test_where_there_is_no_such_file_there_is_nothing_to_do(tmp_path: Path) -> None:
    await forget_key(HereWithHome(tmp_path), KEY)
    assert list(tmp_path.iterdir()) == []


async def test_a_key_that_cannot_be_removed_is_an_error(authorized: Path, tmp_path: Path) -> None:
    class Refusing(HereWithHome):
        async def run(self, command: str, output: Output) -> int:
            output(b"Read-only file system\n")
            return 1

    with pytest.raises(ProvisionerFailed, match="remove the temporary key") as caught:
        await forget_key(Refusing(tmp_path), KEY)
    assert "Read-only file system" in str(caught.value)
