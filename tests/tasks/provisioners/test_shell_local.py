"""`shell-local`, on this host."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from blocks.errors import CommunicatorError, ProvisionerFailed, WaitExpired
from tasks import masking
from tasks.provisioners import ShellLocal
from tests.conftest import Tune
from tests.tasks.chroot.cellar import eventually, processes_about
from tests.tasks.provisioners.support import FakeGuest, bench
from tests.tasks.test_provision import bake, plain_steps

__all__ = ["plain_steps"]

SECRET = 'it\'s a "$ecret"\n\tof `two` \\lines'


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_texts", set())


def local(**options: Any) -> ShellLocal:
    return ShellLocal.model_validate({"type": "shell-local", **options})


async def run(base: Path, variables: dict[str, str] | None = None, **options: Any) -> None:
    await local(**options).provision(bench(FakeGuest(), base, **(variables or {})))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "exactly one of inline, script, scripts and command"),
        ({"inline": ["true"], "command": "true"}, "exactly one of inline, script, scripts and command"),
        ({"inline": ["true"], "execute_command": "sh {{.Script}}"}, "valid list"),
        ({"inline": ["true"], "execute_command": ["sh", "{{.Path}}"]}, "not Path"),
        ({"inline": ["true"], "execute_command": ["sh", "-c", "{{.Vars}}"]}, "must contain {{.Script}}"),
        ({"inline": ["true"], "only_on": ["linus"]}, "'linux'"),
        ({"inline": ["true"], "tempfile_extension": "/../x"}, "pattern"),
        ({"inline": ["true"], "remote_folder": "/x"}, "not permitted"),
    ],
)
def test_mistakes(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        local(**options)
    assert says in str(caught.value)


async def test_scripts_run_here_beside_the_definition(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} >> order\n")
        (tmp_path / name).chmod(0o755)
    guest = FakeGuest()
    await local(scripts=["b", "a"]).provision(bench(guest, tmp_path))
    await local(script="a").provision(bench(guest, tmp_path))
    await local(inline=["for it in 1 2; do", "echo $it >> order", "done"]).provision(bench(guest, tmp_path))
    await local(command="echo c >> order").provision(bench(guest, tmp_path))
    assert (tmp_path / "order").read_text().split() == ["b", "a", "a", "1", "2", "c"]
    assert guest.commands == []


async def test_missing_scripts_are_told_before(tmp_path: Path) -> None:
    found = local(scripts=["a", "b"]).missing_here(tmp_path, "provisioners[0]")
    assert [mistake.option for mistake in found] == ["provisioners[0].scripts[0]", "provisioners[0].scripts[1]"]
    with pytest.raises(ProvisionerFailed, match="cannot be read or written"):
        await run(tmp_path, script="a")


async def test_variables_arrive_exactly_and_secrets_on_no_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVEN_SECRET", SECRET)
    await run(
        tmp_path,
        {"A": "the build's", "B": "x"},
        inline=[
            'for name in A B C TOKEN; do eval "printf \'%s|\' \\"\\$$name\\""; done > seen',
            "cat /proc/$$/cmdline /proc/$PPID/cmdline > lines",
        ],
        environment_vars=["B=of the list"],
        env={"C": SECRET.replace("ecret", "plain"), "TOKEN": {"env": "OVEN_SECRET"}},
        execute_command=["/bin/sh", "-c", "{{.Vars}} {{.Script}}; true"],
    )
    plain = SECRET.replace("ecret", "plain")
    assert (tmp_path / "seen").read_text() == f"the build's|of the list|{plain}|{SECRET}|"
    assert "$ecret" not in (tmp_path / "lines").read_text()
    assert "$plain" in (tmp_path / "lines").read_text()


async def test_the_environment_has_nothing_of_ours_that_is_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "OXIDE_TOKEN", "OSC_SECRET_KEY", "OUTSCALE_SECRETKEYID")
    for name in ours:
        monkeypatch.setenv(name, f"s3cret-of-ours-{name}")
    monkeypatch.setenv("COPY_OF_TOKEN", "Bearer 0xide-token")
    masking.keep_secret(SecretStr("0xide-token"))
    for name in ("HTTPS_PROXY", "SSH_AUTH_SOCK", "MY_OWN"):
        monkeypatch.setenv(name, f"kept-{name}")
    await run(tmp_path, inline=["env > seen"], env={"OXIDE_TOKEN": {"env": "OXIDE_TOKEN"}})
    seen = (tmp_path / "seen").read_text()
    assert {"HTTPS_PROXY=kept-HTTPS_PROXY", "SSH_AUTH_SOCK=kept-SSH_AUTH_SOCK", "MY_OWN=kept-MY_OWN"} <= set(
        seen.splitlines()
    )
    assert "\nPATH=" in f"\n{seen}"
    assert "0xide-token" not in seen
    # What a script is given by reference it has.
    assert [line for line in seen.splitlines() if "s3cret-of-ours" in line] == [
        "OXIDE_TOKEN=s3cret-of-ours-OXIDE_TOKEN"
    ]


async def test_the_execute_command_is_an_argv(tmp_path: Path) -> None:
    await run(
        tmp_path,
        inline=['echo $0 > seen; echo "$1" >> seen'],
        execute_command=["/bin/sh", "{{.Script}}", "one; touch nothing $(id)"],
        tempfile_extension=".mine",
    )
    script, argument = (tmp_path / "seen").read_text().splitlines()
    assert script.endswith(".mine")
    assert argument == "one; touch nothing $(id)"
    assert not Path(script).parent.exists()


async def test_the_format_of_variables(tmp_path: Path) -> None:
    await run(
        tmp_path,
        inline=['printf "%s" "$MY_A" > seen'],
        env={"A": "it's"},
        env_var_format="export MY_%s='%s'; ",
        execute_command=["/bin/sh", "-c", "{{.Vars}} {{.Script}}"],
    )
    assert (tmp_path / "seen").read_text() == "it's"


async def test_the_shebang_of_inline_commands(tmp_path: Path) -> None:
    await run(tmp_path, inline=["import os", "open('seen', 'w').write('x')"], inline_shebang=sys.executable)
    assert (tmp_path / "seen").read_text() == "x"


@pytest.mark.parametrize(("systems", "runs"), [(["linux"], True), (["darwin", "linux"], True), (["windows"], False)])
async def test_only_on_some_systems(
    tmp_path: Path, systems: list[str], caplog: pytest.LogCaptureFixture, *, runs: bool
) -> None:
    caplog.set_level(logging.INFO)
    await run(tmp_path, inline=["touch seen"], only_on=systems)
    assert (tmp_path / "seen").exists() == runs
    assert ("Skipped: this host is linux" in caplog.text) != runs


async def test_valid_exit_codes_and_the_last_lines(tmp_path: Path) -> None:
    await run(tmp_path, inline=["exit 3"], valid_exit_codes=[0, 3])
    with pytest.raises(ProvisionerFailed, match=r"exit code 4(?s:.*)the end"):
        await run(tmp_path, inline=["echo the end; exit 4"], valid_exit_codes=[0, 3])
    with pytest.raises(CommunicatorError, match="could not start /no/such/program"):
        await run(tmp_path, inline=["true"], execute_command=["/no/such/program", "{{.Script}}"])


async def test_an_option_without_effect_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await run(tmp_path, inline=["true"], use_linux_pathing=True)
    assert [record.levelname for record in caplog.records if "no effect" in record.message] == ["WARNING"]


async def test_what_hangs_is_killed_with_all_that_it_started(tmp_path: Path, tune: Tune) -> None:
    tune(provisioner_retry_pause=0)
    word = f"61{abs(hash(str(tmp_path))) % 10**6}"
    hang = f"trap '' TERM HUP; touch hangs; (setsid sleep {word} &); sleep {word}"
    with pytest.raises(WaitExpired, match="not through"):
        await bake(FakeGuest(), {"type": "shell-local", "inline": [hang], "timeout": "2s"}, base=tmp_path)
    assert (tmp_path / "hangs").exists()
    await eventually(lambda: processes_about(f"sleep {word}") == [])

    (tmp_path / "hangs").unlink()
    building = asyncio.create_task(bake(FakeGuest(), {"type": "shell-local", "inline": [hang]}, base=tmp_path))
    await eventually(lambda: len(processes_about(f"sleep {word}")) >= 2, 30)
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    await eventually(lambda: processes_about(f"sleep {word}") == [])


async def test_it_has_a_session_of_its_own_and_nothing_to_read(tmp_path: Path) -> None:
    await run(tmp_path, inline=["cut -d ' ' -f 6 /proc/$$/stat > session; readlink /proc/$$/fd/0 > input"])
    ours = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[3]
    assert (tmp_path / "session").read_text().strip() != ours
    assert (tmp_path / "input").read_text().strip() == "/dev/null"
