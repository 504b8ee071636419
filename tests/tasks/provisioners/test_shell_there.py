"""`shell` in real systems: each option does what it says."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from blocks.errors import CommunicatorError, ConnectionLost, ProvisionerFailed
from tasks import masking
from tasks.chroot.communicator import JailCommunicator
from tasks.provisioners import Shell
from tasks.provisioners.common import Bench
from tests.tasks.provisioners.conftest import System
from tests.tasks.ssh.conftest import Oven

LOG = logging.getLogger("image_bakery.test.shell")
SECRET = 'it\'s a "$ecret"\n\tof `two` \\lines'
WILD = 'it\'s; "$HOME"\t`id`\n\\n two  blanks '


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_texts", set())
    monkeypatch.setenv("OVEN_SECRET", SECRET)


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=LOG.name)


async def run(system: System, base: Path, variables: dict[str, str] | None = None, **options: Any) -> None:
    provisioner = Shell.model_validate({"type": "shell", **options})
    await provisioner.provision(Bench(system.communicator, LOG, base, variables or {}))


async def test_variables_arrive_exactly(system: System, tmp_path: Path) -> None:
    show = ['for name in A B C D; do eval "printf \'%s|\' \\"\\$$name\\""; done > /opt/seen']
    await run(
        system,
        tmp_path,
        {"A": "the build's", "B": "the build's"},
        inline=show,
        environment_vars=["B=of the list", f"C={WILD}", "D=of the list"],
        env={"D": WILD},
    )
    await system.communicator.download("/opt/seen", tmp_path / "seen")
    assert (tmp_path / "seen").read_text() == f"the build's|of the list|{WILD}|{WILD}|"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"execute_command": "sh {{.Path}}"},
        {"execute_command": "{{.Vars}} env -i {{.Vars}} sh -e {{.Path}}"},
        {"use_env_var_file": True},
        {"use_env_var_file": True, "execute_command": "set -a; . {{.EnvVarFile}}; sh {{.Path}}"},
        {"inline": ["#!/usr/bin/awk -f", 'BEGIN { printf "%s", ENVIRON["TOKEN"] > "/opt/token" }']},
        {"remote_folder": "/opt/a folder", "execute_command": "{{.Vars}} sh '{{.Path}}'"},
        {"remote_folder": "/opt/a folder"},
    ],
)
async def test_a_secret_is_seen_by_the_script_alone(
    system: System, tmp_path: Path, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    await system.says("mkdir '/opt/a folder'")
    commands = (
        "printf %s \"$TOKEN\" > /opt/token; for it in /proc/[0-9]*/cmdline; do tr '\\000' ' ' < $it; done > /opt/lines"
    )
    given = {"inline": [commands], "env": {"TOKEN": {"env": "OVEN_SECRET"}}, **options}
    await run(system, tmp_path, {"PLAIN": "x"}, **given)
    await system.communicator.download("/opt/token", tmp_path / "token")
    assert (tmp_path / "token").read_text() == SECRET
    assert "$ecret" not in await system.says("cat /opt/lines")
    assert "$ecret" not in caplog.text
    assert await system.says("ls /tmp '/opt/a folder' | grep _") == ""


async def test_a_secret_where_nothing_can_be_executed(communicator: JailCommunicator, tmp_path: Path) -> None:
    system = System("jail", communicator)
    await system.says("mount -t tmpfs -o noexec x /mnt")
    await run(
        system,
        tmp_path,
        inline=['printf %s "$TOKEN" > /opt/token'],
        env={"TOKEN": {"env": "OVEN_SECRET"}},
        remote_folder="/mnt",
        execute_command="sh {{.Path}}",
    )
    assert await system.says("cat /opt/token") == SECRET
    assert await system.says("ls /mnt") == ""


async def test_what_a_script_says_of_its_secret_is_masked(
    system: System, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    say = ['printf %s "$TOKEN" | base64 | tr -d "=\\n"', "echo", 'echo "$TOKEN" | head -n 1']
    with pytest.raises(ProvisionerFailed) as caught:
        await run(system, tmp_path, inline=[*say, "exit 1"], env={"TOKEN": {"env": "OVEN_SECRET"}})
    for text in (caplog.text, str(caught.value)):
        assert "********" in text
        assert "aXQncyBh" not in text


async def test_a_file_of_variables_is_private_and_goes(system: System, tmp_path: Path) -> None:
    await run(
        system,
        tmp_path,
        inline=["true"],
        env={"A": "b", "TOKEN": {"env": "OVEN_SECRET"}},
        use_env_var_file=True,
        skip_clean=True,
        execute_command="stat -c '%a %n' {{.EnvVarFile}} > /opt/mode; cp {{.EnvVarFile}} /opt/copy; sh {{.Path}}",
    )
    mode, path = (await system.says("cat /opt/mode")).split()
    assert mode == "600"
    assert path.startswith("/tmp/varfile_")
    assert (await system.says("cat /opt/copy")).startswith("export A=b\nexport TOKEN=")
    # skip_clean is for the script: nobody wants secrets left in an image.
    assert await system.says("ls /tmp | cut -d _ -f 1") == "script"


@pytest.mark.parametrize(
    "options",
    [
        {"execute_command": "{{.Vars}} {{.Path}}"},
        {"execute_command": ". {{.EnvVarFile}}; {{.Path}}", "use_env_var_file": True},
        {"use_env_var_file": True},
    ],
)
async def test_the_format_of_variables(system: System, tmp_path: Path, options: dict[str, Any]) -> None:
    await run(
        system,
        tmp_path,
        inline=['printf %s "$MY_A" > /opt/a'],
        env={"A": "it's"},
        env_var_format="export MY_%s='%s'; ",
        **options,
    )
    assert await system.says("cat /opt/a") == "it's"


async def test_scripts_run_in_their_order(system: System, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.sh").write_text(f"#!/bin/sh\necho {name} $0 >> /opt/order\n")
    await run(system, tmp_path, scripts=["b.sh", "a.sh"], remote_file="mine")
    assert await system.says("cat /opt/order") == "b /tmp/mine\na /tmp/mine"
    assert "Running b.sh" in caplog.text
    await run(system, tmp_path, script="a.sh", remote_path="/opt/at this place")
    assert await system.says("tail -n 1 /opt/order; ls -A /tmp") == "a /opt/at this place"


async def test_the_first_failure_ends_the_scripts(system: System, tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text("exit 3\n")
    (tmp_path / "b.sh").write_text("touch /opt/b\n")
    with pytest.raises(ProvisionerFailed, match="exit code 3"):
        await run(system, tmp_path, scripts=["a.sh", "b.sh"])
    assert await system.says("ls /opt") == ""


async def test_a_binary_is_left_as_it_is(system: System, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"#!/bin/sh\nprintf 'x\r\n' > /opt/x\n")
    await run(system, tmp_path, script="a", binary=True)
    assert await system.says("od -An -c /opt/x | tr -d ' '") == r"x\r\n"
    await run(system, tmp_path, script="a")
    assert await system.says("od -An -c /opt/x | tr -d ' '") == r"x\n"


async def test_the_shebang_of_inline_commands(system: System, tmp_path: Path) -> None:
    await run(system, tmp_path, inline=["false", "echo $- > /opt/flags"], inline_shebang="/bin/sh -f")
    assert "f" in await system.says("cat /opt/flags")
    with pytest.raises(ProvisionerFailed, match="exit code 1"):
        await run(system, tmp_path, inline=["false", "true"])


async def test_a_script_that_stays(system: System, tmp_path: Path) -> None:
    await run(system, tmp_path, inline=["true"], remote_path="/opt/stays", skip_clean=True)
    assert await system.says("stat -c %a /opt/stays; cat /opt/stays") == "755\n#!/bin/sh -e\ntrue"


async def test_a_script_that_cannot_be_removed_would_be_in_the_image(system: System, tmp_path: Path) -> None:
    with pytest.raises(ProvisionerFailed, match=r"cannot be removed(?s:.*)skip_clean"):
        await run(system, tmp_path, inline=["rm $0; mkdir $0"])


async def test_a_folder_that_is_not_there_is_told_at_once(system: System, tmp_path: Path) -> None:
    with pytest.raises(CommunicatorError, match="could not write /none/script_"):
        await asyncio.wait_for(run(system, tmp_path, inline=["true"], remote_folder="/none"), 60)


async def test_a_pause_after_a_good_end(system: System, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    await run(system, tmp_path, inline=["true"], pause_after=0.3)
    assert loop.time() - before >= 0.3
    with pytest.raises(ProvisionerFailed):
        await asyncio.wait_for(run(system, tmp_path, inline=["false"], pause_after=1000), 60)


async def test_a_disconnect_that_is_expected(oven: Oven, tmp_path: Path) -> None:
    guest = oven.guest()
    await guest.connect(30)
    system = System("ssh", guest)
    cut = ["echo x >> /opt/runs", "kill -9 $(cut -d ' ' -f 4 /proc/$PPID/stat) $PPID", "sleep 1000"]
    for options in ({"expect_disconnect": True}, {"valid_exit_codes": [0, 2300218]}):
        await run(system, tmp_path, inline=cut, start_retry_timeout=60, **options)
        # It was connected again to remove the script, and the script did not run twice.
        assert await system.says("ls /tmp | grep -c script_") == "0"
    assert await system.says("wc -l < /opt/runs") == "2"
    with pytest.raises(ConnectionLost):
        await run(system, tmp_path, inline=cut)
    guest.close()
