"""Commands and files in a guest, against dropbear on a cheap machine."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from blocks.errors import CannotConnect, CommunicatorError, ConnectionLost, ProvisionerFailed
from tasks.communicator import as_root, must, read
from tasks.output import Lines
from tasks.ssh.guest import SshGuest
from tasks.ssh.temporary_key import forget_key
from tests.tasks.ssh.conftest import Oven


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("echo out; echo err >&2; exit 3", 3, "out\nerr"),
        ("kill -9 $$", -1, ""),
        ("nothing-of-that-name 2>/dev/null", 127, ""),
        ("cat", 0, ""),
        ("printf 'a\\377b'", 0, "a\ufffdb"),
    ],
)
async def test_commands(guest: SshGuest, command: str, code: int, said: str) -> None:
    assert await read(guest, command) == (code, said)


@pytest.mark.parametrize("length", [5_000, 20_000, 300_000])
async def test_a_long_command(guest: SshGuest, length: int) -> None:
    """Longer than Dropbear takes in a request, and than a program takes in an argument."""
    command = f"set -- '{'x' * length}'; echo ${{#1}}; cat; echo \"$0\" >/dev/null; exit 3"
    assert await read(guest, command) == (3, str(length))


async def test_a_long_command_is_killed_when_it_is_given_up(guest: SshGuest, looker: SshGuest) -> None:
    running = asyncio.create_task(read(guest, f": '{'x' * 20_000}'; sleep 98767; true"))
    look = "ps | grep -v grep | grep -c 'sleep 98767' || true"
    async with asyncio.timeout(20):
        while await read(looker, look) == (0, "0"):
            await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 20)
    assert await read(looker, look) == (0, "0")


async def test_a_command_that_has_to_succeed(guest: SshGuest) -> None:
    assert await must(guest, "echo yes", what="say yes") == "yes"
    with pytest.raises(ProvisionerFailed, match="could not say yes: exit code 1: no"):
        await must(guest, "echo no; false", what="say yes")


async def test_a_line_of_a_megabyte(guest: SshGuest) -> None:
    logged: list[str] = []
    lines = Lines(logged.append)
    assert await guest.run("head -c 1000000 /dev/zero | tr '\\000' x; echo; echo after", lines.feed) == 0
    lines.end()
    assert [len(line) < 5000 for line in logged] == [True, True]
    assert "996,000 more characters" in logged[0]
    assert logged[1] == "after"


async def test_output_comes_while_the_command_runs(guest: SshGuest) -> None:
    seen = asyncio.Event()
    loop = asyncio.get_running_loop()

    def output(data: bytes) -> None:
        assert data == b"first\n"
        loop.call_soon_threadsafe(seen.set)

    running = asyncio.create_task(guest.run("echo first; sleep 1000", output))
    await asyncio.wait_for(seen.wait(), 20)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 2)
    assert await read(guest, "echo still here") == (0, "still here")


async def test_a_connection_that_is_lost_while_a_command_runs(guest: SshGuest, oven: Oven) -> None:
    said = asyncio.Event()
    loop = asyncio.get_running_loop()

    def output(_: bytes) -> None:
        loop.call_soon_threadsafe(said.set)

    running = asyncio.create_task(guest.run("echo up; sleep 1000", output))
    await asyncio.wait_for(said.wait(), 20)
    await oven.machine.power_off()
    with pytest.raises(ConnectionLost, match="the reboot provisioner"):
        await asyncio.wait_for(running, 20)
    assert not guest.is_connected
    with pytest.raises(ConnectionLost):
        await read(guest, "true")
    with pytest.raises(ConnectionLost):
        await guest.upload(b"", "/tmp/x", 0o600)


async def test_what_was_never_connected_is_no_connection(oven: Oven) -> None:
    with pytest.raises(ConnectionLost):
        await read(oven.guest(), "true")


async def test_a_wrong_user_is_not_let_in(oven: Oven) -> None:
    with pytest.raises(CannotConnect, match="ssh_username"):
        await oven.guest("nobody", handshake_attempts=1).connect(20)


async def test_files(guest: SshGuest, tmp_path: Path) -> None:
    data = os.urandom(1_000_000)
    (tmp_path / "big").write_bytes(data)
    await guest.upload(tmp_path / "big", "/opt/big", 0o640)
    await guest.upload(b"secret", "/opt/secret", 0o600)
    await guest.upload(b"short", "/opt/big2", 0o755)
    await guest.upload(b"", "/opt/big2", 0o700)
    assert await read(guest, "cd /opt; stat -c '%n %a %s' *") == (0, "big 640 1000000\nbig2 700 0\nsecret 600 6")
    await guest.download("/opt/big", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


async def test_a_directory_keeps_its_modes(guest: SshGuest, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub/empty").mkdir(parents=True)
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "sub/private").write_text("x")
    for path, mode in (("run.sh", 0o755), ("sub/private", 0o600), ("sub/empty", 0o700), ("sub", 0o750), (".", 0o711)):
        (tree / path).chmod(mode)
    await guest.upload_directory(tree, "/opt/tree")
    _, said = await read(guest, "cd /opt/tree; find . -exec stat -c '%n %a' {} + | sort")
    assert said.splitlines() == [". 711", "./run.sh 755", "./sub 750", "./sub/empty 700", "./sub/private 600"]


async def test_a_directory_that_is_there_keeps_its_mode(guest: SshGuest, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/file").write_text("new")
    tree.chmod(0o700)
    await must(guest, "chmod 1777 /tmp; mkdir /tmp/sub; chmod 755 /tmp/sub; echo kept > /tmp/sub/other", what="prepare")
    await guest.upload_directory(tree, "/tmp/")
    assert await read(guest, "stat -c '%a' /tmp /tmp/sub; cat /tmp/sub/*") == (0, "1777\n755\nnewkept")


async def test_a_user_may_write_into_a_directory_of_others(oven: Oven, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("mine")
    guest = oven.guest("baker")
    await guest.connect(30)
    await guest.upload_directory(tmp_path / "tree", "/tmp")
    assert await read(guest, "cat /tmp/file; stat -c %U /tmp/file") == (0, "minebaker")
    guest.close()


@pytest.mark.parametrize("destination", ["/no/such/directory/file", "/proc/version", "/opt"])
async def test_where_nothing_can_be_written(guest: SshGuest, destination: str, tmp_path: Path) -> None:
    with pytest.raises(CommunicatorError, match=f"could not write {destination}"):
        await guest.upload(b"x", destination, 0o600)
    assert await read(guest, "echo still here") == (0, "still here")


async def test_a_file_for_which_there_is_no_room(guest: SshGuest, tmp_path: Path) -> None:
    # This file system is of 256 KiB.
    with pytest.raises(CommunicatorError, match="could not write /dev/big"):
        await guest.upload(b"x" * 1_000_000, "/dev/big", 0o600)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/big").write_bytes(b"x" * 1_000_000)
    await must(guest, "rm /dev/big; mkdir /dev/tree", what="make room")
    with pytest.raises(CommunicatorError, match="could not write the directory /dev/tree"):
        await guest.upload_directory(tmp_path / "tree", "/dev/tree")


async def test_what_cannot_be_read(guest: SshGuest, tmp_path: Path) -> None:
    with pytest.raises(CommunicatorError, match="could not read /no/such/file"):
        await guest.download("/no/such/file", tmp_path / "x")


async def test_a_guest_without_sftp_says_what_it_needs(oven: Oven) -> None:
    (oven.tree / "usr/lib/sftp-server").rename(oven.tree / "usr/lib/sftp-server.away")
    sftp = oven.guest(transfer_method="sftp")
    await sftp.connect(30)
    with pytest.raises(CommunicatorError, match="openssh-sftp-server"):
        await asyncio.wait_for(sftp.upload(b"x", "/opt/x", 0o600), 40)
    (oven.tree / "usr/lib/sftp-server.away").rename(oven.tree / "usr/lib/sftp-server")
    await sftp.upload(b"x", "/opt/x", 0o600)
    sftp.close()


async def test_a_guest_without_sftp_takes_files_by_scp(guest: SshGuest, oven: Oven) -> None:
    (oven.tree / "usr/lib/sftp-server").unlink()
    await asyncio.wait_for(guest.upload(b"by scp", "/opt/x", 0o640), 40)
    assert await read(guest, "cat /opt/x; stat -c %a /opt/x") == (0, "by scp640")
    (oven.tree / "usr/bin/scp").unlink()
    with pytest.raises(CommunicatorError, match="neither SFTP nor scp"):
        await asyncio.wait_for(guest.upload(b"x", "/opt/x", 0o600), 40)


async def test_the_temporary_key_is_forgotten_in_every_home(guest: SshGuest, oven: Oven) -> None:
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRoZSBzZWNvbmQgaGFsZiBvZiBhIGtleSBwYWly someone"
    await must(guest, f"echo {other} >> /home/baker/.ssh/authorized_keys", what="add a key")
    await forget_key(guest, oven.plan.key.private)
    said = await must(guest, "cat /home/baker/.ssh/authorized_keys; ls /root/.ssh", what="look")
    assert said == other
    assert await read(guest, as_root("id -un")) == (0, "root")
    with pytest.raises(CannotConnect):
        await oven.guest(handshake_attempts=1).connect(20)
