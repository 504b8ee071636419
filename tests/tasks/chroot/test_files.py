"""Files into a jail and out of it: whatever links the image holds, the host's files are out of reach."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
from pathlib import Path

import pytest

from blocks.errors import CommunicatorError
from tasks.chroot.communicator import JailCommunicator
from tasks.chroot.jail import Jail
from tasks.communicator import read


async def test_an_upload_has_its_mode_and_contents(communicator: JailCommunicator, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"of a file")
    await communicator.upload(tmp_path / "source", "/opt/with space", 0o4751)
    await communicator.upload(b"", "/opt/empty", 0o600)
    assert await read(communicator, "cd /opt; stat -c '%a %u %s %n' *; cat 'with space'") == (
        0,
        "600 0 0 empty\n4751 0 9 with space\nof a file",
    )
    await communicator.upload(b"new", "/opt/with space", 0o644)
    assert await read(communicator, "cat '/opt/with space'") == (0, "new")


@pytest.mark.parametrize("link", ["{outside}", "/proc/1/root{outside}", "../../../../../../../..{outside}"])
async def test_an_upload_through_a_hostile_link_does_not_touch_the_host(
    communicator: JailCommunicator, tmp_path: Path, link: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("of the host")
    target = link.format(outside=outside)
    await read(communicator, f"ln -s {target} /opt/link; ln -s {target}/file /opt/file")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("uploaded")
    for attack in (
        communicator.upload(b"uploaded", "/opt/link/file", 0o644),
        communicator.upload(b"uploaded", "/opt/file", 0o644),
        communicator.upload_directory(tmp_path / "tree", "/opt/link"),
    ):
        with pytest.raises(CommunicatorError):
            await attack
    with pytest.raises(CommunicatorError):
        await communicator.download("/opt/file", tmp_path / "got")
    assert (outside / "file").read_text() == "of the host"
    assert sorted(path.name for path in outside.iterdir()) == ["file"]
    assert not (tmp_path / "got").exists()


async def test_absolute_links_are_followed_inside(communicator: JailCommunicator, tmp_path: Path) -> None:
    name = f"bakery-test-{os.getpid()}-{tmp_path.name}"
    await read(communicator, "rm -rf /var/run; ln -s /run /var/run")
    await communicator.upload(b"inside", f"/var/run/{name}", 0o644)
    assert await read(communicator, f"cat /run/{name}") == (0, "inside")
    assert not Path("/run", name).exists()
    await communicator.download(f"/var/run/{name}", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == b"inside"


async def test_a_directory_arrives_with_modes_and_what_its_links_lead_to(
    communicator: JailCommunicator, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub").chmod(0o711)
    (tree / "sub" / "script").write_text("x")
    (tree / "sub" / "script").chmod(0o755)
    (tmp_path / "elsewhere").write_text("linked to")
    (tree / "link").symlink_to(tmp_path / "elsewhere")
    await communicator.upload_directory(tree, "/opt/new/")
    assert await read(communicator, "cd /opt/new; find . | sort; stat -c %a sub sub/script; cat link") == (
        0,
        ".\n./link\n./sub\n./sub/script\n711\n755\nlinked to",
    )


async def test_links_to_directories_are_followed_and_one_without_an_end_is_refused(
    communicator: JailCommunicator, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("linked to")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "elsewhere")
    await communicator.upload_directory(tmp_path / "tree", "/opt/tree")
    assert await read(communicator, "cat /opt/tree/link/file; test ! -L /opt/tree/link") == (0, "linked to")
    (tmp_path / "tree" / "loop").symlink_to(tmp_path / "tree")
    with pytest.raises(CommunicatorError, match="a directory that it is in"):
        await communicator.upload_directory(tmp_path / "tree", "/opt/loop")


async def test_a_directory_that_is_there_keeps_its_mode_and_what_is_in_it(
    communicator: JailCommunicator, tmp_path: Path
) -> None:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").write_text("new")
    await read(communicator, "mkdir -p /opt/sub; chmod 1777 /opt; chmod 751 /opt/sub; echo kept > /opt/sub/other")
    await communicator.upload_directory(tmp_path / "tree", "/opt")
    assert await read(communicator, "stat -c %a /opt /opt/sub; cat /opt/sub/*") == (0, "1777\n751\nnewkept")


async def test_a_directory_comes_back_with_modes_and_what_its_links_lead_to_inside(
    communicator: JailCommunicator, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_text("of the host")
    await read(
        communicator,
        "mkdir -p /opt/d/empty /opt/other; cd /opt/d; echo inside > /opt/other/file; ln -s /opt/other linked;"
        "ln -s /opt/other/file file; printf x > tool; chmod 4755 tool; chmod 701 empty; chmod 500 .",
    )
    await communicator.download_directory("/opt/d/", tmp_path / "got")
    got = tmp_path / "got"
    assert (got / "linked" / "file").read_text() == (got / "file").read_text() == "inside\n"
    assert not (got / "linked").is_symlink()
    # Nothing of an image may become someone else's program here.
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o7777 for path in [got, *got.iterdir()]}
    assert {name: modes[name] for name in ("got", "got/tool", "got/empty")} == {
        "got": 0o500,
        "got/tool": 0o755,
        "got/empty": 0o701,
    }


async def test_what_cannot_be_copied_out_is_told_and_the_rest_is_there(
    communicator: JailCommunicator, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_text("of the host")
    await read(
        communicator,
        f"mkdir /opt/d; cd /opt/d; mkfifo pipe; ln -s /nowhere none; ln -s . loop; ln -s {tmp_path}/outside host;"
        "echo 1 > a; echo 2 > z",
    )
    (tmp_path / "got").mkdir(mode=0o711)
    with pytest.raises(CommunicatorError) as caught:
        await communicator.download_directory("/opt/d", tmp_path / "got")
    for name in ("pipe", "none", "loop", "host"):
        assert f"/opt/d/{name}" in str(caught.value)
    assert {path.name for path in (tmp_path / "got").iterdir() if path.is_file()} == {"a", "z"}
    assert (tmp_path / "got").stat().st_mode & 0o777 == 0o711
    with pytest.raises(CommunicatorError, match="could not read the directory /opt/none"):
        await communicator.download_directory("/opt/none", tmp_path / "none")


async def test_a_download_does_not_write_through_links_that_are_here(
    communicator: JailCommunicator, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "a").symlink_to(tmp_path / "precious")
    await read(communicator, "mkdir /opt/d; echo 1 > /opt/d/a")
    with pytest.raises(CommunicatorError, match="All else was copied"):
        await communicator.download_directory("/opt/d", tmp_path / "got")
    assert (tmp_path / "precious").read_text() == "precious"


async def test_a_file_comes_back_with_its_mode(communicator: JailCommunicator, tmp_path: Path) -> None:
    await read(communicator, "echo x > /opt/x; chmod 4750 /opt/x")
    await communicator.download("/opt/x", tmp_path / "x")
    assert (tmp_path / "x").stat().st_mode & 0o7777 == 0o750


@pytest.mark.parametrize("destination", ["/none/file", "/opt", "/dev/null", "/run/pipe"])
async def test_what_cannot_be_written_is_an_error_that_names_it(
    communicator: JailCommunicator, destination: str
) -> None:
    await read(communicator, "mkfifo /run/pipe")
    with pytest.raises(CommunicatorError, match=f"could not write {destination}: {destination}: .+\n.*room"):
        await communicator.upload(b"x", destination, 0o600)
    assert (await read(communicator, "stat -c %a /dev/null"))[1] == "666"


@pytest.mark.parametrize("source", ["/none", "/opt", "/dev/zero", "/run/pipe"])
async def test_what_cannot_be_read_is_an_error_and_leaves_no_file(
    communicator: JailCommunicator, tmp_path: Path, source: str
) -> None:
    await read(communicator, "mkfifo /run/pipe")
    (tmp_path / "here").mkdir()
    with pytest.raises(CommunicatorError, match=f"could not read {source}"):
        await communicator.download(source, tmp_path / "here" / "got")
    assert list((tmp_path / "here").iterdir()) == []


async def test_a_missing_source_is_this_hosts_error(communicator: JailCommunicator, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await communicator.upload(tmp_path / "none", "/opt/x", 0o644)


async def test_a_full_file_system_is_an_error_that_says_so(communicator: JailCommunicator, tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(CommunicatorError, match="No space left"):
        await communicator.upload(tmp_path / "big", "/opt/big", 0o644)


async def test_a_big_file_goes_both_ways_in_little_memory(communicator: JailCommunicator, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 24
    (tmp_path / "big").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    del data
    await read(communicator, "mount -t tmpfs -o size=64m x /mnt")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await communicator.upload(tmp_path / "big", "/mnt/big", 0o644)
    assert (await read(communicator, "sha256sum /mnt/big"))[1].split()[0] == digest
    await communicator.download("/mnt/big", tmp_path / "back")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10
    assert hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest() == digest


async def test_a_cancelled_upload_ends_at_once(communicator: JailCommunicator, jail: Jail, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "endless")
    reader = os.open(tmp_path / "endless", os.O_RDWR)
    try:
        uploading = asyncio.create_task(communicator.upload(tmp_path / "endless", "/opt/x", 0o644))
        await read(communicator, "while ! test -e /opt/x; do :; done")
        uploading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await uploading
        assert await jail.strays() == []
    finally:
        os.close(reader)
