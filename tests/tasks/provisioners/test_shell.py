from __future__ import annotations

import asyncio
import logging
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from blocks.errors import CannotConnect, ConnectionLost, ProvisionerFailed, SecretUnavailable
from tasks import masking
from tasks.provisioners import Shell
from tests.tasks.provisioners.support import FakeGuest, bench

SECRET = "it's a $ecret\nof `two` lines"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_texts", set())


def shell(**options: Any) -> Shell:
    return Shell.model_validate({"type": "shell", **options})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "exactly one of inline, script and scripts"),
        ({"inline": ["true"], "script": "a.sh"}, "exactly one of inline, script and scripts"),
        ({"inline": []}, "at least 1 item"),
        ({"script": ""}, "at least 1 character"),
        ({"inline": ["true"], "execute_command": "{{.Path}} {{.User}}"}, "not User"),
        ({"inline": ["true"], "execute_command": "sudo {{.Vars}}"}, "must contain {{.Path}}"),
        ({"inline": ["true"], "env": {"not-a-name": "x"}}, "pattern"),
        ({"inline": ["true"], "env": {"1X": "x"}}, "pattern"),
        ({"inline": ["true"], "valid_exit_codes": []}, "at least 1 item"),
        ({"inline": ["true"], "scripts": ["a.sh"]}, "exactly one of inline, script and scripts"),
        ({"scripts": []}, "at least 1 item"),
        ({"inline": ["true"], "environment_vars": ["A"]}, "NAME=VALUE"),
        ({"inline": ["true"], "environment_vars": ["1A=b"]}, "NAME=VALUE"),
        ({"inline": ["true"], "env_var_format": "%s"}, "%s twice"),
        ({"inline": ["true"], "env_var_format": "%s=%s %d"}, "%s twice"),
        ({"inline": ["true"], "env_var_format": "%%s=%s"}, "%s twice"),
        ({"inline": ["true"], "remote_file": "a", "remote_path": "/b"}, "not both"),
        ({"inline": ["true"], "use_env_var_file": True, "execute_command": "{{.Path}}"}, "{{.EnvVarFile}}"),
        ({"inline": ["true"], "execute_command": ". {{.EnvVarFile}}; {{.Path}}"}, "not EnvVarFile"),
        ({"inline": ["true"], "start_retry_timeout": -1}, "greater than or equal to 0"),
        ({"inline": ["true"], "no_such_option": "1s"}, "not permitted"),
    ],
)
def test_mistakes(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        shell(**options)
    assert says in str(caught.value)


def test_numbers_are_taken_as_they_are_written() -> None:
    assert shell(inline=["true"], env={"PORT": 80}).env == {"PORT": "80"}


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "there.sh").write_text("")
    (mistake,) = shell(script="gone.sh").missing_here(tmp_path, "provisioners[1]")
    assert mistake.option == "provisioners[1].script"
    assert str(tmp_path / "gone.sh") in mistake.rule
    assert shell(script="there.sh").missing_here(tmp_path, "x") == []
    assert shell(inline=["true"]).missing_here(tmp_path, "x") == []


@pytest.mark.parametrize(
    ("options", "script"),
    [
        ({"inline": ["one", "two"]}, b"#!/bin/sh -e\none\ntwo\n"),
        ({"inline": ["one\r\ntwo"]}, b"#!/bin/sh -e\none\ntwo\n"),
        ({"inline": ["one"], "inline_shebang": "/bin/bash -eux"}, b"#!/bin/bash -eux\none\n"),
        ({"inline": ["#!/usr/bin/env python3", "print(1)"]}, b"#!/usr/bin/env python3\nprint(1)\n"),
    ],
)
async def test_inline_commands_are_one_script(options: dict[str, Any], script: bytes, tmp_path: Path) -> None:
    guest = FakeGuest()
    await shell(**options).provision(bench(guest, tmp_path))
    ((path, (contents, mode)),) = guest.files.items()
    assert (contents, mode) == (script, 0o755)
    assert path.startswith("/tmp/script_")
    assert guest.commands == [f"chmod +x {path};  {path}", f"rm -f {path}"]


async def test_a_script_is_the_definitions(tmp_path: Path) -> None:
    guest = FakeGuest()
    (tmp_path / "a.sh").write_bytes(b"#!/bin/sh\r\ntrue\r\n\xff")
    await shell(script="a.sh", remote_folder="/opt/run/").provision(bench(guest, tmp_path))
    ((path, (contents, _)),) = guest.files.items()
    assert contents == b"#!/bin/sh\ntrue\n\xff"
    assert path.startswith("/opt/run/script_")


async def test_plain_values_are_quoted_on_the_command_line(tmp_path: Path) -> None:
    guest = FakeGuest()
    provisioner = shell(
        inline=["true"],
        env={"A": "it's; $(x)", "NAME": "own"},
        execute_command="sudo {{ .Vars }} sh {{.Path}} {{.Path}}",
    )
    await provisioner.provision(bench(guest, tmp_path, NAME="theirs", BUILD="b"))
    (path,) = guest.files
    assert guest.commands[0] == f"sudo NAME=own BUILD=b A='it'\"'\"'s; $(x)'  sh {path} {path}"


async def test_a_value_that_looks_like_a_template_is_left_alone(tmp_path: Path) -> None:
    guest = FakeGuest()
    await shell(inline=["true"], env={"A": r"{{.Path}} \1"}).provision(bench(guest, tmp_path))
    assert r"A='{{.Path}} \1'" in guest.commands[0]


async def test_secrets_are_only_in_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVEN_SECRET", SECRET)
    guest = FakeGuest(says=[f"it says {SECRET.splitlines()[0]} and {SECRET}\n".encode()])
    provisioner = shell(inline=["true"], env={"TOKEN": {"env": "OVEN_SECRET"}, "PLAIN": "x"})
    await provisioner.provision(bench(guest, tmp_path))
    assert [mode for contents, mode in guest.files.values() if b"$ecret" in contents] == [0o600]
    assert not any("$ecret" in command for command in guest.commands)
    assert all(path in guest.commands[-1] for path in guest.files)
    assert guest.commands[-1].startswith("rm -f ")


async def test_the_script_sees_its_secrets_and_the_file_is_gone_by_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVEN_SECRET", SECRET)
    there = tmp_path / "a folder"
    there.mkdir()
    seen: list[str] = []

    class Here(FakeGuest):
        async def upload(self, source: Path | bytes, destination: str, mode: int) -> None:
            await super().upload(source, destination, mode)
            path = Path(destination)
            path.write_bytes(self.files[destination][0])
            path.chmod(mode)

        async def run(self, command: str, output: object) -> int:
            done = await asyncio.to_thread(subprocess.run, ["sh", "-c", command], capture_output=True, text=True)
            seen.append(done.stdout + done.stderr)
            return done.returncode

    provisioner = shell(
        inline=['printf %s "$TOKEN-$PLAIN"; ls "$WHERE" | wc -l'],
        env={"TOKEN": {"env": "OVEN_SECRET"}, "PLAIN": "it's plain", "WHERE": str(there)},
        remote_folder=str(there),
        execute_command="chmod +x '{{.Path}}'; {{.Vars}} '{{.Path}}'",
    )
    await provisioner.provision(bench(Here(), tmp_path))
    assert seen[0].split() == f"{SECRET}-it's plain2".split()
    assert list(there.iterdir()) == []


async def test_a_reference_that_leads_nowhere_uploads_nothing(tmp_path: Path) -> None:
    guest = FakeGuest()
    with pytest.raises(SecretUnavailable):
        await shell(inline=["true"], env={"A": {"env": "NOT_SET_ANYWHERE"}}).provision(bench(guest, tmp_path))
    assert guest.files == {}


@pytest.mark.parametrize(("code", "valid"), [(0, [0]), (3, [0, 3]), (1, [1])])
async def test_valid_exit_codes(tmp_path: Path, code: int, valid: list[int]) -> None:
    await shell(inline=["true"], valid_exit_codes=valid).provision(bench(FakeGuest(code), tmp_path))


@pytest.mark.parametrize(
    ("code", "says"), [(1, "the script ended with exit code 1"), (-1, "the script was ended by a signal")]
)
async def test_a_failure_shows_the_last_lines(tmp_path: Path, code: int, says: str) -> None:
    guest = FakeGuest(code, says=[b"".join(b"line %d\n" % number for number in range(100)), b"the end"])
    with pytest.raises(ProvisionerFailed) as caught:
        await shell(inline=["true"], name="web").provision(bench(guest, tmp_path))
    text = str(caught.value)
    assert text.startswith(f"provisioner web: {says}: its last lines were:\n      line 81\n")
    assert "\n      line 99\n      the end\n  → " in text
    assert guest.commands[-1].startswith("rm -f ")


async def test_a_failure_of_a_script_that_said_nothing(tmp_path: Path) -> None:
    with pytest.raises(ProvisionerFailed, match="it said nothing"):
        await shell(inline=["true"]).provision(bench(FakeGuest(2), tmp_path))


async def test_output_comes_line_by_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    guest = FakeGuest(says=[b"one\ntw", b"o 100%d\n\xff", b"three"])
    await shell(inline=["true"]).provision(bench(guest, tmp_path))
    assert [record.getMessage() for record in caplog.records] == ["one", "two 100%d", "\ufffdthree"]


async def test_what_was_said_before_the_connection_broke_is_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    class Breaking(FakeGuest):
        async def run(self, command: str, output: Any) -> int:
            if not command.startswith("rm"):
                output(b"half a li")
            raise ConnectionLost("it broke")

    with pytest.raises(ConnectionLost):
        await shell(inline=["true"]).provision(bench(Breaking(), tmp_path))
    assert [record.getMessage() for record in caplog.records] == ["half a li"]


async def test_cancelled_it_cleans_up_and_is_cancelled(tmp_path: Path) -> None:
    guest = FakeGuest(breaks=asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await shell(inline=["true"]).provision(bench(guest, tmp_path))
    assert guest.commands[-1].startswith("rm -f ")


class ComingUp(FakeGuest):
    """A guest that is restarting: its connection is gone, and for some tries it does not answer."""

    is_connected = False
    down = 2
    connects = 0

    async def connect(self, timeout: float) -> None:
        self.connects += 1
        if self.connects <= self.down:
            raise CannotConnect("not up yet")
        self.is_connected = True

    def close(self) -> None:
        self.is_connected = False

    async def upload(self, source: Path | bytes, destination: str, mode: int) -> None:
        if self.connects == self.down + 1:
            self.connects += 1
            raise ConnectionLost("it was on its way down")
        await super().upload(source, destination, mode)


async def test_a_guest_that_is_coming_up_is_waited_for(tmp_path: Path) -> None:
    guest = ComingUp()
    await shell(inline=["true"], start_retry_timeout=60).provision(bench(guest, tmp_path))
    assert guest.connects == 5
    assert len([command for command in guest.commands if command.startswith("chmod")]) == 1


async def test_the_wait_has_an_end(tmp_path: Path) -> None:
    guest = ComingUp()
    guest.down = 10**6
    with pytest.raises(CannotConnect):
        await asyncio.wait_for(shell(inline=["true"], start_retry_timeout=0.6).provision(bench(guest, tmp_path)), 60)
    assert 1 < guest.connects < 6
    guest.connects = 0
    with pytest.raises(CannotConnect):
        await shell(inline=["true"], start_retry_timeout=0).provision(bench(guest, tmp_path))
    assert guest.connects == 1


async def test_what_cannot_be_connected_again_is_not_waited_for(tmp_path: Path) -> None:
    class Gone(FakeGuest):
        async def upload(self, source: Path | bytes, destination: str, mode: int) -> None:
            raise ConnectionLost("the jail is gone")

    with pytest.raises(ConnectionLost):
        await asyncio.wait_for(shell(inline=["true"]).provision(bench(Gone(), tmp_path)), 60)
