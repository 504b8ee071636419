"""Files that stand in for the image's own, and that the image has its own again."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from blocks.errors import CommunicatorError
from tasks.chroot.communicator import JailCommunicator
from tasks.chroot.copied_files import CopiedFiles
from tasks.chroot.jail import Jail
from tasks.communicator import read

_LOOK = "cd /etc; stat -c '%F %N %a %u %Y %i' resolv.conf 2>/dev/null; cat resolv.conf 2>/dev/null; ls -a /etc"


@pytest.fixture
def copied(jail: Jail) -> CopiedFiles:
    return CopiedFiles(jail, logging.getLogger("build"))


@pytest.mark.parametrize(
    "make",
    [
        "rm -f resolv.conf",
        "echo nameserver 192.0.2.1 > resolv.conf; chmod 640 resolv.conf; touch -d 2001-01-01 resolv.conf",
        "ln -sf ../run/systemd/resolve/stub-resolv.conf resolv.conf",
        "ln -sf /nowhere/at/all resolv.conf",
        "ln -sf /etc/hosts resolv.conf",
        "ln -sf resolv.conf resolv.conf",
    ],
    ids=["missing", "file", "dangling", "absolute dangling", "absolute", "loop"],
)
async def test_the_images_own_resolv_conf_is_as_it_was(
    communicator: JailCommunicator, copied: CopiedFiles, make: str
) -> None:
    await read(communicator, f"cd /etc; {make}")
    before = await read(communicator, _LOOK)
    hosts = await read(communicator, "cat /etc/hosts")
    await copied.copy()
    _, inside = await read(communicator, "test ! -L /etc/resolv.conf && cat /etc/resolv.conf")
    assert inside == Path("/etc/resolv.conf").read_text().strip()
    await copied.put_back()
    await copied.put_back()
    assert await read(communicator, _LOOK) == before
    assert await read(communicator, "cat /etc/hosts") == hosts


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ("echo mine > resolv.conf", "regular file mine"),
        ("chmod 600 resolv.conf", "regular file"),
        ("rm resolv.conf", ""),
        ("ln -sf /run/mine resolv.conf", "symbolic link"),
    ],
)
async def test_what_a_provisioner_made_of_it_stays(
    communicator: JailCommunicator, copied: CopiedFiles, change: str, after: str
) -> None:
    await read(communicator, "echo own > /etc/resolv.conf")
    await copied.copy()
    await read(communicator, f"cd /etc; {change}")
    await copied.put_back()
    look = "cd /etc; stat -c %F resolv.conf; grep mine resolv.conf; ls -a | grep image-bakery"
    _, said = await read(communicator, f"({look}) 2>/dev/null")
    assert " ".join(said.split()) == after


async def test_a_rewrite_with_the_same_contents_is_no_change(
    communicator: JailCommunicator, copied: CopiedFiles
) -> None:
    await read(communicator, "echo own > /etc/resolv.conf")
    await copied.copy()
    await read(communicator, "cd /etc; cp -p resolv.conf new; mv new resolv.conf")
    await copied.put_back()
    assert await read(communicator, "cat /etc/resolv.conf") == (0, "own")


async def test_an_image_keeps_no_file_nor_directory_that_it_did_not_have(
    communicator: JailCommunicator, copied: CopiedFiles, tmp_path: Path
) -> None:
    (tmp_path / "proxy.conf").write_text("for the build")
    (tmp_path / "proxy.conf").chmod(0o640)
    path = str(tmp_path / "proxy.conf")
    await copied.copy([path])
    assert await read(communicator, f"stat -c %a {path}; cat {path}") == (0, "640\nfor the build")
    await copied.put_back()
    top = "/" + Path(path).parts[1]
    assert await read(communicator, f"find {top} -name '*proxy*'; find {top} -name '{tmp_path.name}'") == (0, "")


async def test_an_original_that_an_earlier_attempt_put_aside_is_the_one_that_comes_back(
    jail: Jail, communicator: JailCommunicator, copied: CopiedFiles
) -> None:
    await read(communicator, "echo own > /etc/resolv.conf")
    await CopiedFiles(jail, logging.getLogger("build")).copy()
    await copied.copy()
    await copied.put_back()
    assert await read(communicator, "cat /etc/resolv.conf") == (0, "own")


async def test_a_file_that_the_host_lacks_is_an_error_that_names_the_option(
    copied: CopiedFiles, tmp_path: Path
) -> None:
    with pytest.raises(CommunicatorError, match=r"none.*No such file(.|\n)*copy_files"):
        await copied.copy([str(tmp_path / "none")])
