from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from blocks.errors import ConnectionLost, ProvisionerFailed, WaitExpired
from tasks.provisioners import File, Reboot
from tests.tasks.provisioners.support import FakeGuest, bench


def file(**options: Any) -> File:
    return File.model_validate({"type": "file", **options})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"destination": "/x"}, "exactly one of source, sources and content"),
        ({"destination": "/x", "source": "a", "content": "b"}, "exactly one of source, sources and content"),
        ({"source": "a"}, "Field required"),
        ({"destination": "", "source": "a"}, "at least 1 character"),
        ({"destination": "/x/", "content": "b"}, "names the file"),
        ({"destination": "x", "content": "b", "direction": "download"}, "only be uploaded"),
        ({"destination": "x", "source": "a", "sources": ["b"]}, "exactly one of source, sources and content"),
        ({"destination": "x", "sources": []}, "at least 1 item"),
        ({"destination": "x", "source": "a\nb", "direction": "download"}, "cannot hold a newline"),
        ({"destination": "x", "source": "a", "direction": "sideways"}, "'upload' or 'download'"),
    ],
)
def test_mistakes(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        file(**options)
    assert says in str(caught.value)


def test_only_what_is_uploaded_has_to_be_here(tmp_path: Path) -> None:
    (mistake,) = file(source="gone", destination="/x").missing_here(tmp_path, "provisioners[0]")
    assert mistake.option == "provisioners[0].source"
    assert file(source="gone", destination="x", direction="download").missing_here(tmp_path, "x") == []
    assert file(content="", destination="/x").missing_here(tmp_path, "x") == []


@pytest.mark.parametrize(("destination", "there"), [("/opt/b", "/opt/b"), ("/opt/", "/opt/a"), ("b", "b")])
async def test_a_file_goes_with_its_mode(tmp_path: Path, destination: str, there: str) -> None:
    (tmp_path / "a").write_bytes(b"\x00\xff")
    (tmp_path / "a").chmod(0o640)
    guest = FakeGuest()
    await file(source="a", destination=destination).provision(bench(guest, tmp_path))
    assert guest.files == {there: (b"\x00\xff", 0o640)}
    assert guest.commands == []


@pytest.mark.parametrize(
    ("source", "destination", "there"),
    [("d/", "/opt", "/opt"), ("d/", "/opt/", "/opt/"), ("d", "/opt", "/opt/d"), ("d", "/opt/", "/opt/d")],
)
async def test_a_trailing_slash_means_the_contents(tmp_path: Path, source: str, destination: str, there: str) -> None:
    (tmp_path / "d").mkdir()
    guest = FakeGuest()
    await file(source=source, destination=destination).provision(bench(guest, tmp_path))
    ((_, destination_there),) = guest.directories
    assert destination_there == there


@pytest.mark.parametrize("content", ["grüße\n", ""])
async def test_contents_are_written_as_text_that_only_the_owner_reads(tmp_path: Path, content: str) -> None:
    guest = FakeGuest()
    await file(content=content, destination="/etc/motd").provision(bench(guest, tmp_path))
    assert guest.files == {"/etc/motd": (content.encode(), 0o600)}


async def test_several_sources_all_go(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    (tmp_path / "d").mkdir()
    guest = FakeGuest()
    await file(sources=["a", "d", "b"], destination="/opt/").provision(bench(guest, tmp_path))
    assert {path: data for path, (data, _) in guest.files.items()} == {"/opt/a": b"1", "/opt/b": b"2"}
    assert guest.directories == [(tmp_path / "d", "/opt/d")]


def test_several_files_cannot_become_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    (tmp_path / "d").mkdir()
    (mistake,) = file(sources=["a", "b"], destination="/opt/one").missing_here(tmp_path, "provisioners[0]")
    assert (mistake.option, mistake.rule) == ("provisioners[0].destination", "must end in / for several files")
    assert file(sources=["d", "d/"], destination="/opt/one").missing_here(tmp_path, "x") == []
    (mistake,) = file(source="a/", destination="/opt").missing_here(tmp_path, "p")
    assert mistake.rule == "ends in / and is a file"


async def test_what_is_generated_has_to_be_there_in_time(tmp_path: Path) -> None:
    provisioner = file(source="later", destination="/x", generated=True)
    assert provisioner.missing_here(tmp_path, "x") == []
    with pytest.raises(ProvisionerFailed, match=r"(?s)later: No such file.*must be there when this provisioner begins"):
        await provisioner.provision(bench(FakeGuest(), tmp_path))
    (tmp_path / "later").write_text("now")
    guest = FakeGuest()
    await provisioner.provision(bench(guest, tmp_path))
    assert guest.files["/x"][0] == b"now"


def test_every_missing_source_is_named(tmp_path: Path) -> None:
    found = file(sources=["a", "b"], destination="/opt/").missing_here(tmp_path, "provisioners[2]")
    assert [mistake.option for mistake in found] == ["provisioners[2].sources[0]", "provisioners[2].sources[1]"]


@pytest.mark.parametrize(
    ("source", "destination", "here"),
    [
        ("/etc/ssh/", "out", "out"),
        ("/etc/ssh/", "out/", "out"),
        ("/etc/ssh", "out", "out/ssh"),
        ("/etc/ssh", "out/", "out/ssh"),
    ],
)
async def test_a_trailing_slash_means_the_contents_of_what_is_downloaded(
    tmp_path: Path, source: str, destination: str, here: str
) -> None:
    guest = FakeGuest(directories_there=["/etc/ssh"])
    await file(source=source, destination=destination, direction="download").provision(bench(guest, tmp_path))
    assert guest.downloads == [(source, tmp_path / here)]


async def test_a_download_that_cannot_be_written_here_says_so(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ProvisionerFailed, match=r"on the host that builds cannot be read or written.*out"):
        await file(source="/x", destination="out/", direction="download").provision(bench(FakeGuest(), tmp_path))


@pytest.mark.parametrize(("destination", "here"), [("out/log", "out/log"), ("out/", "out/syslog")])
async def test_a_download_makes_its_directory(tmp_path: Path, destination: str, here: str) -> None:
    guest = FakeGuest()
    provisioner = file(source="/var/log/syslog", destination=destination, direction="download")
    await provisioner.provision(bench(guest, tmp_path))
    assert guest.downloads == [("/var/log/syslog", tmp_path / here)]
    assert (tmp_path / here).read_bytes() == b"from there"


class RestartingGuest(FakeGuest):
    """A guest that is down for some tries, and comes back with another boot id."""

    down = 2
    restarts = True
    refuses = ""
    boot = 1
    is_connected = True

    async def run(self, command: str, output: Any) -> int:
        self.commands.append(command)
        if command.endswith("boot_id"):
            output(b"boot-%d\n" % self.boot)
            return 0
        if self.refuses:
            output(self.refuses.encode())
            return 1
        if self.restarts:
            self.boot += 1
        raise ConnectionLost("it is going down")

    async def connect(self, timeout: float) -> None:
        self.down -= 1
        if self.down >= 0:
            raise ConnectionLost("not up yet")

    def close(self) -> None:
        return


def reboot(**options: Any) -> Reboot:
    return Reboot.model_validate({"type": "reboot", **options})


async def test_a_reboot_is_proved_by_the_boot_id(tmp_path: Path) -> None:
    guest = RestartingGuest()
    await reboot(reboot_command="systemctl reboot").provision(bench(guest, tmp_path))
    assert guest.commands[1] == "systemctl reboot"
    assert guest.boot == 2


async def test_by_default_it_is_done_as_root(tmp_path: Path) -> None:
    guest = RestartingGuest()
    await reboot().provision(bench(guest, tmp_path))
    assert "sudo -n sh -c reboot" in guest.commands[1]


async def test_a_guest_that_does_not_restart(tmp_path: Path) -> None:
    guest = RestartingGuest()
    guest.restarts, guest.down = False, 0
    with pytest.raises(WaitExpired, match=r"the guest did not restart within 0\.6 s"):
        await reboot(timeout=0.6).provision(bench(guest, tmp_path))


async def test_a_guest_that_does_not_come_back(tmp_path: Path) -> None:
    guest = RestartingGuest()
    guest.down = 1000
    with pytest.raises(WaitExpired, match="the guest was not back"):
        await reboot(timeout="0.6s").provision(bench(guest, tmp_path))


async def test_a_guest_that_refuses_is_not_waited_for(tmp_path: Path) -> None:
    guest = RestartingGuest()
    guest.refuses = "sudo: a password is required"
    with pytest.raises(ProvisionerFailed, match="a password is required"):
        await reboot(timeout=1000).provision(bench(guest, tmp_path))


async def test_what_cannot_be_restarted(tmp_path: Path) -> None:
    with pytest.raises(ProvisionerFailed, match="cannot be restarted"):
        await reboot().provision(bench(FakeGuest(), tmp_path))


def test_a_reboot_takes_time() -> None:
    with pytest.raises(ValidationError):
        reboot(timeout=0)
