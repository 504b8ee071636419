"""Commands in a jail, and what a cancellation leaves of them."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from pathlib import Path

import pytest

from blocks.errors import CommunicatorError, ConnectionLost
from tasks.chroot.communicator import JailCommunicator
from tasks.chroot.jail import Jail
from tasks.communicator import read
from tasks.provisioners import File, Shell
from tasks.provisioners.common import Bench
from tests.tasks.chroot.cellar import processes_about, until_running


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo '`id` $HOME \"quoted\"'", '`id` $HOME "quoted"'),
        ("X=`echo in`\necho $X\nprintf 'a\\tb'", "in\na\tb"),
        ("cat <<'END'\nline\twith tab\n\\n stays\nEND", "line\twith tab\n\\n stays"),
        ("echo é; echo $((6*7))", "é\n42"),
        ("echo to-err >&2", "to-err"),
    ],
)
async def test_the_inner_shell_gets_a_command_unchanged(
    communicator: JailCommunicator, command: str, said: str
) -> None:
    assert await read(communicator, command) == (0, said)


async def test_nothing_of_a_command_runs_on_the_host(communicator: JailCommunicator, tmp_path: Path) -> None:
    await read(communicator, f"echo `touch {tmp_path}/by-backticks` $(touch {tmp_path}/by-dollar)")
    assert list(tmp_path.glob("by-*")) == []


async def test_exit_codes_arrive_and_a_signal_is_minus_one(communicator: JailCommunicator) -> None:
    assert (await read(communicator, "exit 200"))[0] == 200
    assert (await read(communicator, "kill -TERM $$"))[0] == -1
    assert (await read(communicator, "kill -KILL $$"))[0] == -1


async def test_commands_find_an_environment_of_their_own(
    communicator: JailCommunicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_BUILDER", "s3cret")
    _, said = await read(communicator, "env; cat /proc/*/environ; echo; pwd; umask; readlink /proc/self/fd/0")
    assert "s3cret" not in said
    assert "HOME=/root" in said
    assert said.splitlines()[-3:] == ["/", "0022", "/dev/null"]


async def test_output_comes_as_it_is_made(communicator: JailCommunicator) -> None:
    heard = asyncio.Event()
    parts: list[bytes] = []

    def hear(data: bytes) -> None:
        parts.append(data)
        heard.set()

    running = asyncio.create_task(communicator.run("mkfifo /run/go; echo first; read x < /run/go; echo $x", hear))
    async with asyncio.timeout(10):
        await heard.wait()
        assert parts == [b"first\n"]
        await read(communicator, "echo second > /run/go")
        assert await running == 0
    assert b"".join(parts) == b"first\nsecond\n"


async def test_a_lot_of_output_arrives_whole_while_other_commands_run(communicator: JailCommunicator) -> None:
    many = bytearray()
    async with asyncio.TaskGroup() as group:
        group.create_task(communicator.run("dd if=/dev/zero bs=64k count=160 2>/dev/null", many.extend))
        small = group.create_task(read(communicator, "echo side by side"))
    assert len(many) == 160 * 64 * 1024
    assert small.result() == (0, "side by side")


async def test_a_daemon_that_holds_the_output_open_does_not_hold_up_the_command(communicator: JailCommunicator) -> None:
    async with asyncio.timeout(10):
        assert await read(communicator, "echo done; sleep 4321 &") == (0, "done")


async def test_a_cancelled_command_leaves_nothing_and_spares_what_was_there(
    jail: Jail, communicator: JailCommunicator
) -> None:
    await read(communicator, "sleep 1111 > /dev/null 2>&1 &")
    begun = asyncio.Event()
    tree = "trap '' TERM HUP INT; setsid sh -c 'trap \"\" TERM; (setsid sleep 2222 &); sleep 3333' & echo; sleep 4444"
    running = asyncio.create_task(communicator.run(tree, lambda _: begun.set()))
    async with asyncio.timeout(10):
        await begun.wait()
    await until_running(jail, "sleep 1111", "sleep 2222", "sleep 3333", "sleep 4444")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    # The keeper does one thing after the other, so its next answer comes after the kill.
    assert [stray.command_line for stray in await jail.strays()] == ["sleep 1111"]


async def test_a_line_that_is_full_for_now_does_not_save_a_command_from_its_end(
    jail: Jail, communicator: JailCommunicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()
    running = asyncio.create_task(communicator.run("echo; sleep 4321", lambda _: begun.set()))
    async with asyncio.timeout(10):
        await begun.wait()
    full = 3
    really = socket.send_fds

    def send(line: socket.socket, messages: list[bytes], descriptors: list[int]) -> int:
        nonlocal full
        if full and b'"kill"' in messages[0]:
            full -= 1
            raise BlockingIOError
        return really(line, messages, descriptors)

    monkeypatch.setattr(socket, "send_fds", send)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with asyncio.timeout(10):
        while await jail.strays():
            await asyncio.sleep(0.005)
    assert full == 0


async def test_an_output_that_fails_ends_the_command(communicator: JailCommunicator, jail: Jail) -> None:
    def fail(_: bytes) -> None:
        raise ValueError("the log is full")

    with pytest.raises(ValueError, match="the log is full"):
        await communicator.run("echo; sleep 5555", fail)
    assert await jail.strays() == []


async def test_a_jail_that_ends_ends_its_commands_with_an_error(jail: Jail, communicator: JailCommunicator) -> None:
    begun = asyncio.Event()
    running = asyncio.create_task(communicator.run("echo; sleep 6666", lambda _: begun.set()))
    async with asyncio.timeout(10):
        await begun.wait()
        await jail.close()
        with pytest.raises(ConnectionLost):
            await running
    assert processes_about("sleep 6666") == []


async def test_a_jail_whose_first_process_is_killed_is_gone(jail: Jail, communicator: JailCommunicator) -> None:
    os.kill(jail.first_process, 9)

    async def until_it_is_noticed() -> None:
        # A command that was running is taken along with the jail: a signal ended it.
        while (await read(communicator, "sleep 7777"))[0] == -1:
            pass

    with pytest.raises(ConnectionLost, match="the jail is gone"):
        await asyncio.wait_for(until_it_is_noticed(), 10)


async def test_an_image_without_a_shell_is_an_error_that_says_so(communicator: JailCommunicator) -> None:
    await read(communicator, "mv /usr/bin/sh /usr/bin/was-sh")
    with pytest.raises(CommunicatorError, match="could not start /bin/sh: No such file"):
        await read(communicator, "true")


async def test_a_command_that_is_too_long_is_an_error_with_a_way_out(communicator: JailCommunicator) -> None:
    assert (await read(communicator, ": " + "x" * 130_000))[0] == 0
    with pytest.raises(CommunicatorError, match="Upload it as a script"):
        await read(communicator, ": " + "x" * 140_000)


async def test_a_command_wrapper_starts_commands_from_the_host(jail: Jail, tmp_path: Path) -> None:
    seen = tmp_path / "wrapped"
    wrapped = JailCommunicator(jail, f"touch {seen}; {{{{.Command}}}}")
    assert await read(wrapped, "echo '`id` $HOME' && cat /etc/os-release | head -c 3; exit 3") == (
        3,
        "`id` $HOME\nID=",
    )
    assert seen.exists()
    _, status = await read(wrapped, "grep CapEff /proc/self/status")
    assert not int(status.split()[1], 16) >> 25 & 1


async def test_shell_and_file_provisioners_work_unchanged(communicator: JailCommunicator, tmp_path: Path) -> None:
    (tmp_path / "tree" / "deep dir").mkdir(parents=True)
    (tmp_path / "tree" / "deep dir" / "tool").write_text("#!/bin/sh\necho tool runs\n")
    (tmp_path / "tree" / "deep dir" / "tool").chmod(0o750)
    said: list[str] = []
    logger = logging.getLogger("provisioner")
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    bench = Bench(communicator, logger, tmp_path, {"BUILD_NAME": "it's `id` $HOME"})
    await File(type="file", source="tree", destination="/opt").provision(bench)
    await File(type="file", content="written\n", destination="/etc/motd").provision(bench)
    commands = ["'/opt/tree/deep dir/tool'", 'echo "$BUILD_NAME $EXTRA"', "cat /etc/motd"]
    await Shell(type="shell", inline=commands, env={"EXTRA": "tab\there"}).provision(bench)
    await File(type="file", source="/etc/motd", destination="got/", direction="download").provision(bench)
    logger.removeHandler(handler)
    assert {"tool runs", "it's `id` $HOME tab\there", "written"} <= set(said)
    assert (tmp_path / "got" / "motd").read_text() == "written\n"
    assert await read(communicator, "ls /tmp") == (0, "")
