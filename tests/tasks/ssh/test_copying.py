"""Files to and from a guest, by SFTP and by scp: contents, modes, links, and what cannot be copied."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from pathlib import Path

import pytest

from blocks.errors import CommunicatorError
from tasks.communicator import must, read
from tasks.ssh.guest import SshGuest
from tasks.ssh.scp import _read_header
from tests.tasks.ssh.conftest import Kitchen
from tests.tasks.ssh.openssh import PASSWORD, Sshd

MIB = 1024**2


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", PASSWORD)


@pytest.fixture
def sshd(kitchen: Kitchen) -> Sshd:
    return kitchen.sshd("PasswordAuthentication yes")


@pytest.fixture(params=["sftp", "scp"])
async def guest(kitchen: Kitchen, sshd: Sshd, request: pytest.FixtureRequest) -> SshGuest:
    return await kitchen.connected(ssh_password={"env": "PASSWORD"}, ssh_file_transfer_method=request.param)


def modes(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): f"{path.stat().st_mode & 0o7777:o}" for path in sorted([root, *root.rglob("*")])
    }


async def test_the_method_is_the_one_that_was_chosen(guest: SshGuest, sshd: Sshd) -> None:
    await guest.upload(b"x", "file", 0o600)
    assert ("subsystem 'sftp'" in sshd.log) == (guest.plan.transfer_method == "sftp")


async def test_by_default_it_is_sftp_where_there_is_one(kitchen: Kitchen, sshd: Sshd) -> None:
    plain = await kitchen.connected(ssh_password={"env": "PASSWORD"})
    await plain.upload(b"x", "file", 0o600)
    assert "subsystem 'sftp'" in sshd.log


@pytest.mark.parametrize("method", ["sftp", None])
async def test_a_server_without_sftp(kitchen: Kitchen, method: str | None) -> None:
    sshd = kitchen.sshd("PasswordAuthentication yes", "Subsystem sftp /no/such/program")
    guest = await kitchen.connected(ssh_password={"env": "PASSWORD"}, ssh_file_transfer_method=method)
    if method is None:
        await guest.upload(b"x", "file", 0o600)
        assert (sshd.home / "file").read_bytes() == b"x"
    else:
        with pytest.raises(CommunicatorError, match="does not offer SFTP"):
            await guest.upload(b"x", "file", 0o600)


async def test_files_up_and_down(guest: SshGuest, sshd: Sshd, tmp_path: Path) -> None:
    data = os.urandom(3 * MIB + 1)
    (tmp_path / "big").write_bytes(data)
    await guest.upload(tmp_path / "big", "big", 0o4750)
    await guest.upload(b"", "a name with 'quotes' \"and\" $(spaces)", 0o606)
    await guest.upload(b"short", "big2", 0o666)
    await guest.upload(b"s", "big2", 0o600)
    await guest.upload(b"dash", "-r", 0o644)
    assert modes(sshd.home) | {".": "", ".ssh": ""} == {
        ".": "",
        ".ssh": "",
        "a name with 'quotes' \"and\" $(spaces)": "606",
        "big": "4750",
        "big2": "600",
        "-r": "644",
    }
    assert (sshd.home / "big").read_bytes() == data
    assert (sshd.home / "big2").read_bytes() == b"s"
    await guest.download("big", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert (tmp_path / "back").stat().st_mode & 0o7777 == 0o750  # no set-uid from a guest on this host
    if guest.plan.transfer_method == "sftp":
        await guest.download("/proc/uptime", tmp_path / "kernel")  # it says that it holds nothing
        assert (tmp_path / "kernel").read_text()
    await guest.download("-r", tmp_path / "dash")
    assert (tmp_path / "dash").read_bytes() == b"dash"


@pytest.mark.parametrize(
    ("destination", "why"),
    [("/no/such/file", "No such file"), (".", "irectory|Failure"), ("/etc/shadow", "ermission denied")],
)
async def test_where_nothing_can_be_written(guest: SshGuest, destination: str, why: str) -> None:
    with pytest.raises(CommunicatorError, match=f"could not write {destination}: .*({why})"):
        await guest.upload(b"x", destination, 0o600)
    assert await read(guest, "echo still here") == (0, "still here")


@pytest.mark.parametrize(
    ("source", "why"), [("/no/such/file", "No such file"), ("/etc", "irectory|regular"), ("/etc/shadow", "denied")]
)
async def test_what_cannot_be_read(guest: SshGuest, source: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(CommunicatorError, match=f"could not read {source}: .*({why})"):
        await guest.download(source, tmp_path / "x")


def plant(root: Path) -> None:
    """A tree with all that can be copied: a link to a file, one to a directory, odd names and modes."""
    (root / "sub/empty").mkdir(parents=True)
    (root / "locked").mkdir()
    files = {"run.sh": 0o755, "sub/private": 0o600, "sub/odd name é": 0o640, "locked/file": 0o444, "set": 0o2755}
    for name, mode in files.items():
        (root / name).write_text(f"this is {name}\n")
        (root / name).chmod(mode)
    (root / "link").symlink_to("sub/private")
    (root / "linked").symlink_to("sub")
    for name, mode in {"sub": 0o750, "sub/empty": 0o1777, "locked": 0o555, ".": 0o711}.items():
        (root / name).chmod(mode)


COPIED = {
    ".": "711",
    "link": "600",
    "linked": "750",
    "linked/empty": "1777",
    "linked/odd name é": "640",
    "linked/private": "600",
    "locked": "555",
    "locked/file": "444",
    "run.sh": "755",
    "set": "2755",
    "sub": "750",
    "sub/empty": "1777",
    "sub/odd name é": "640",
    "sub/private": "600",
}


async def test_a_directory_up_and_down(guest: SshGuest, sshd: Sshd, tmp_path: Path) -> None:
    plant(tmp_path / "tree")
    await guest.upload_directory(tmp_path / "tree", "tree")
    assert modes(sshd.home / "tree") == COPIED
    assert (sshd.home / "tree/linked/private").read_text() == "this is sub/private\n"
    assert not (sshd.home / "tree/linked").is_symlink()

    await must(guest, "cd tree && rm -r linked link && ln -s sub linked && ln -s sub/private link", what="make links")
    await guest.download_directory("tree", tmp_path / "back")
    here = {name: f"{int(mode, 8) & 0o777:o}" for name, mode in COPIED.items()}  # no special bits on this host
    assert modes(tmp_path / "back") == here
    assert (tmp_path / "back/linked/odd name é").read_text() == "this is sub/odd name é\n"
    (tmp_path / "back/locked").chmod(0o755)
    (tmp_path / "tree/locked").chmod(0o755)


async def test_directories_that_are_there_keep_their_modes(guest: SshGuest, sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/file").write_text("new")
    (tmp_path / "tree").chmod(0o700)
    await must(
        guest, "mkdir -p there/sub; chmod 1777 there; chmod 755 there/sub; echo kept > there/sub/other", what="x"
    )
    await guest.upload_directory(tmp_path / "tree", "there/")
    assert modes(sshd.home / "there") == {".": "1777", "sub": "755", "sub/file": "644", "sub/other": "644"}
    (tmp_path / "here/sub").mkdir(parents=True)
    (tmp_path / "here").chmod(0o711)
    await guest.download_directory("there", tmp_path / "here")
    assert modes(tmp_path / "here") == {".": "711", "sub": "755", "sub/file": "644", "sub/other": "644"}


async def test_many_directories(guest: SshGuest, sshd: Sshd, tmp_path: Path) -> None:
    for number in range(150):
        (tmp_path / f"tree/{number:03}").mkdir(parents=True)
    (tmp_path / "tree/149/file").write_text("last")
    await guest.upload_directory(tmp_path / "tree", "tree")
    assert len(list((sshd.home / "tree").iterdir())) == 150
    assert (sshd.home / "tree/149/file").read_text() == "last"


@pytest.mark.parametrize("what", ["loop", "dangling", "socket", "pipe"])
async def test_what_cannot_be_copied_is_an_error_before_anything_is_written(
    guest: SshGuest, sshd: Sshd, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "first").write_text("x")
    match what:
        case "loop":
            (tree / "sub/odd").symlink_to("..")
        case "dangling":
            (tree / "sub/odd").symlink_to("nowhere")
        case "socket":
            monkeypatch.chdir(tree / "sub")  # a socket's path must be short
            with socket.socket(socket.AF_UNIX) as odd:
                odd.bind("odd")
        case "pipe":
            os.mkfifo(tree / "sub/odd")
    with pytest.raises(CommunicatorError, match="could not write the directory tree"):
        await guest.upload_directory(tree, "tree")
    assert not (sshd.home / "tree").exists()


@pytest.mark.parametrize("what", ["ln -s nowhere tree/odd", "mkfifo tree/odd", "ln -s .. tree/sub/odd"])
async def test_what_cannot_be_fetched_is_an_error_after_all_else(guest: SshGuest, tmp_path: Path, what: str) -> None:
    await must(guest, f"mkdir -p tree/sub; echo z > tree/zzz; {what}", what="plant")
    with pytest.raises(CommunicatorError, match=r"could not read the directory tree: .*odd.*\. All else was copied"):
        await asyncio.wait_for(guest.download_directory("tree", tmp_path / "back"), 60)
    assert (tmp_path / "back/zzz").read_text() == "z\n"


async def test_a_directory_that_is_not_there(guest: SshGuest, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with pytest.raises(CommunicatorError, match=r"could not read the directory nowhere: .*No such file"):
        await guest.download_directory("nowhere", tmp_path / "back")
    with pytest.raises(CommunicatorError, match=r"could not write the directory /no/such: .*No such file"):
        await guest.upload_directory(tmp_path / "tree", "/no/such")


async def test_a_big_file_takes_no_more_memory_than_a_small_one(guest: SshGuest, sshd: Sshd, tmp_path: Path) -> None:
    size = 192 * MIB
    with (tmp_path / "big").open("wb") as big:
        big.truncate(size)  # nothing of it is on the disk
    await guest.upload(b"warm", "warm", 0o600)
    await guest.download("warm", tmp_path / "warm")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await guest.upload(tmp_path / "big", "big", 0o600)
    await guest.download("big", tmp_path / "back")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert (sshd.home / "big").stat().st_size == (tmp_path / "back").stat().st_size == size
    assert grown < size / 4
    (tmp_path / "back").unlink()
    (sshd.home / "big").unlink()


async def test_a_copy_that_is_cancelled_leaves_the_connection(guest: SshGuest, tmp_path: Path, sshd: Sshd) -> None:
    with (tmp_path / "big").open("wb") as big:
        big.truncate(2048 * MIB)
    copying = asyncio.create_task(guest.upload(tmp_path / "big", "big", 0o600))
    async with asyncio.timeout(30):
        while not ((sshd.home / "big").exists() and (sshd.home / "big").stat().st_size):
            await asyncio.sleep(0.02)
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(copying, 10)
    await guest.upload(b"small", "small", 0o600)
    assert await read(guest, "cat small; rm -f big") == (0, "small")


async def test_side_by_side(guest: SshGuest, sshd: Sshd) -> None:
    data = {f"file{number}": os.urandom(200_000) for number in range(6)}
    await asyncio.gather(*(guest.upload(contents, name, 0o600) for name, contents in data.items()))
    assert {name: (sshd.home / name).read_bytes() for name in data} == data


@pytest.mark.parametrize("header", [b"C0644 2 ../../evil", b"D0755 0 ..", b"C0644 2 a/b", b"C0644 -2 a", b"E 1", b""])
def test_names_that_lead_elsewhere_are_refused(header: bytes) -> None:
    """What a server says that files are called is no reason to write anywhere else (CVE-2019-6111)."""
    with pytest.raises(OSError, match="scp sent what is no file"):
        _read_header(header)
