"""What goes over the socket between the connection plugin and the build."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from blocks.errors import ConnectionLost
from tasks.communicator import Output
from tasks.provisioners.ansible_requests import Requests, answering
from tests.tasks.chroot.cellar import eventually, processes_about
from tests.tasks.provisioners.ansible.here import ThisHost


class Asker:
    """Ansible's end of the socket."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    async def begin(self, request: dict[str, Any], stdin: bytes = b"") -> tuple[asyncio.StreamReader, Any]:
        reader, writer = await asyncio.open_unix_connection(self.socket)
        writer.write(json.dumps({**request, "stdin": len(stdin)}).encode() + b"\n" + stdin)
        await writer.drain()
        return reader, writer

    async def ask(self, request: dict[str, Any], stdin: bytes = b"") -> tuple[dict[str, Any], bytes, bytes]:
        reader, writer = await self.begin(request, stdin)
        try:
            head = json.loads(await reader.readline())
            stdout = await reader.readexactly(head.get("stdout", 0))
            stderr = await reader.readexactly(head.get("stderr", 0))
            assert await reader.read() == b""
            return head, stdout, stderr
        finally:
            writer.close()

    async def run(self, command: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        head, stdout, stderr = await self.ask({"do": "exec", "command": command}, stdin)
        return head["code"], stdout, stderr


@pytest.fixture
def host() -> ThisHost:
    return ThisHost()


@pytest.fixture
async def requests(host: ThisHost, tmp_path: Path) -> AsyncIterator[Requests]:
    async with answering(host, tmp_path / "socket") as requests:
        yield requests
    assert not Path(requests.directory).exists()


@pytest.fixture
def asker(requests: Requests, tmp_path: Path) -> Asker:
    return Asker(tmp_path / "socket")


EVERYTHING = bytes(range(256)) * 2000


@pytest.mark.parametrize(
    ("command", "stdin", "expected"),
    [
        ("printf out; printf err >&2; exit 3", b"", (3, b"out", b"err")),
        ("cat", EVERYTHING, (0, EVERYTHING, b"")),
        ("cat >&2", EVERYTHING, (0, b"", EVERYTHING)),
        ("cat", b"", (0, b"", b"")),
        ("echo 'it'\\''s' \"$((6*7))\"; umask", b"", (0, b"it's 42\n0022\n", b"")),
    ],
)
async def test_in_and_out_are_apart_and_unchanged(
    asker: Asker, command: str, stdin: bytes, expected: tuple[int, bytes, bytes]
) -> None:
    assert await asker.run(command, stdin) == expected


async def test_a_signal_is_a_code_as_shells_have_it(asker: Asker) -> None:
    assert (await asker.run("kill -9 $$"))[0] == 137


async def test_shell_text_that_is_none_spoils_nothing(asker: Asker) -> None:
    code, _, stderr = await asker.run("echo unfinished '")
    assert code != 0
    assert b"nterminated" in stderr


async def test_a_daemon_that_keeps_the_output_open_holds_up_nothing(asker: Asker) -> None:
    async with asyncio.timeout(30):
        code, daemon, _ = await asker.run("sleep 1818 & echo $!")
    assert code == 0
    os.kill(int(daemon), signal.SIGKILL)


async def test_what_a_command_reads_and_says_lies_in_no_file_by_then(asker: Asker, requests: Requests) -> None:
    _, stdout, _ = await asker.run(
        f"cat; ls -A {requests.directory} | wc -l; stat -c %a {requests.directory}", b"pass\n"
    )
    assert stdout.split() == [b"pass", b"0", b"700"]


async def test_a_task_may_empty_the_directory_for_temporary_files(asker: Asker, requests: Requests) -> None:
    assert await asker.run(f"cat > /dev/null; rm -rf {requests.directory}; echo still", b"x") == (0, b"still\n", b"")
    assert await asker.run("cat", b"again") == (0, b"again", b"")


async def test_many_at_once(asker: Asker, host: ThisHost) -> None:
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(asker.run(f"cat; exit {n}", b"%d" % n * 10_000)) for n in range(30)]
    assert [task.result() for task in running] == [(n, b"%d" % n * 10_000, b"") for n in range(30)]
    # An SSH server grants ten sessions a connection.
    assert 1 < host.most_at_once < 10


async def test_who_hangs_up_ends_the_command(asker: Asker, host: ThisHost) -> None:
    _, writer = await asker.begin({"do": "exec", "command": "sleep 1919"})
    await eventually(lambda: processes_about("sleep 1919") != [], 30)
    writer.close()
    await eventually(lambda: processes_about("sleep 1919") == [] and len(host.ended) == 1, 30)


async def test_the_end_of_it_all_ends_commands(host: ThisHost, tmp_path: Path) -> None:
    async with answering(host, tmp_path / "socket"):
        reader, writer = await Asker(tmp_path / "socket").begin({"do": "exec", "command": "sleep 2020"})
        await eventually(lambda: processes_about("sleep 2020") != [], 30)
    assert processes_about("sleep 2020") == []
    assert await reader.read() == b""
    writer.close()


async def test_files_go_both_ways(asker: Asker, tmp_path: Path) -> None:
    here, there, back = (tmp_path / name for name in ("here", "there", "back"))
    here.write_bytes(EVERYTHING)
    here.chmod(0o750)
    assert await asker.ask({"do": "put", "here": str(here), "there": str(there)}) == ({}, b"", b"")
    assert there.stat().st_mode & 0o777 == 0o750
    await asker.ask({"do": "fetch", "here": str(back), "there": str(there)})
    assert back.read_bytes() == EVERYTHING


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"do": "put", "here": "/nowhere/at/all", "there": "/tmp/x"}, "/nowhere/at/all"),
        ({"do": "fetch", "there": "/nowhere/at/all", "here": "/tmp/x"}, "could not read /nowhere/at/all"),
    ],
)
async def test_a_file_that_is_not_there_is_no_lost_connection(
    asker: Asker, requests: Requests, request_: dict[str, Any], says: str
) -> None:
    head, _, _ = await asker.ask(request_)
    assert says in head["error"]
    assert head["lost"] is False
    assert requests.lost is None


class Noisy(ThisHost):
    """A login shell with something to say, behind a terminal."""

    async def run(self, command: str, output: Output) -> int:
        said = bytearray(b"Welcome!\nbakery-\n")
        code = await super().run(command, said.extend)
        output(bytes(said).replace(b"\n", b"\r\n"))
        return code


async def test_neither_a_terminal_nor_a_greeting_spoils_anything(tmp_path: Path) -> None:
    async with answering(Noisy(), tmp_path / "socket"):
        assert await Asker(tmp_path / "socket").run("cat; exit 7", EVERYTHING) == (7, EVERYTHING, b"")


class Closed(ThisHost):
    """A system whose user may run no command."""

    async def run(self, command: str, output: Output) -> int:
        if "sh -c" not in command:
            return await super().run(command, output)
        output(b"This account is currently not available.\n")
        return 1


async def test_a_user_who_may_run_nothing(tmp_path: Path) -> None:
    async with answering(Closed(), tmp_path / "socket"):
        head, _, _ = await Asker(tmp_path / "socket").ask({"do": "exec", "command": "true"})
    assert "currently not available" in head["error"]


class Lost(ThisHost):
    """A system that goes away."""

    async def run(self, command: str, output: Output) -> int:
        if "sh -c" in command:
            raise ConnectionLost("the SSH connection broke")
        return await super().run(command, output)


async def test_a_lost_connection_is_said_and_remembered(tmp_path: Path) -> None:
    async with answering(Lost(), tmp_path / "socket") as requests:
        head, _, _ = await Asker(tmp_path / "socket").ask({"do": "exec", "command": "true"})
    assert head == {"error": "the SSH connection broke", "lost": True}
    assert isinstance(requests.lost, ConnectionLost)
