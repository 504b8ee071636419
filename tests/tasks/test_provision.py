"""Running provisioners: what all of them share, the error clean-up, and going on where an earlier attempt stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect import Task
from pydantic import TypeAdapter

from blocks.errors import (
    ConnectionLost,
    HostKeyChanged,
    ProvisionerFailed,
    RecordMismatch,
    SecretUnavailable,
    WaitExpired,
)
from tasks import provision as provision_module
from tasks.communicator import Output
from tasks.provision import labels, provision
from tasks.provisioners import Provisioner
from tasks.provisioners.facts import BuildFacts
from tasks.record import Record
from tasks.run import Run
from tests.conftest import Tune
from tests.tasks.provisioners.support import FakeGuest
from tests.tasks.support import LOG, mark_of

RUN = "00000000-0000-4000-8000-000000000001"
FACTS = BuildFacts(
    "web",
    "oxide-instance",
    run_id=RUN,
    instance_id="i-1",
    source_name="debian",
    source_id="s-1",
)
ALL: TypeAdapter[list[Provisioner]] = TypeAdapter(list[Provisioner])
ONE: TypeAdapter[Provisioner] = TypeAdapter(Provisioner)


class NoWitness:
    def creating(self, resource: str) -> None: ...
    def created(self, resource: str) -> None: ...


@pytest.fixture(autouse=True)
def plain_steps(monkeypatch: pytest.MonkeyPatch, tune: Tune) -> None:
    """Steps without a Prefect server: their own functions."""

    def step(name: str, *, retries: int = 4) -> Any:
        from tasks.step import in_time

        assert retries == 0
        return lambda function: lambda run, *args: in_time(run, name, function(run, *args))

    monkeypatch.setattr(provision_module, "step", step)
    tune(provisioner_retry_pause=0.05)


class ScriptedGuest(FakeGuest):
    """Runs each script as its only line says: `ok`, `fail`, `hang`, `fail N times`, `lose`, `key`."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[str] = []
        self.ended: list[str] = []
        self.failures: dict[str, int] = {}

    async def run(self, command: str, output: Output) -> int:
        self.commands.append(command)
        if not command.startswith("chmod +x"):
            return 0
        script = self.files[command.split()[2].rstrip(";")][0].decode().splitlines()[1]
        self.ran.append(script)
        output(f"this is {script}\n".encode())
        word, _, rest = script.partition(" ")
        match word:
            case "fail" if rest:
                left = self.failures.setdefault(script, int(rest))
                self.failures[script] -= 1
                return 1 if left > 0 else 0
            case "fail":
                return 1
            case "hang":
                try:
                    await asyncio.sleep(3600)
                finally:
                    self.ended.append(script)
            case "lose":
                raise ConnectionLost("it broke")
            case "key":
                raise HostKeyChanged("another")
        return 0


def a_run() -> Run:
    return Run(mark_of(), datetime.now(UTC), LOG, NoWitness())


async def bake(
    guest: Any, *provisioners: dict[str, Any], base: Path = Path(), run: Run | None = None, **more: Any
) -> Run:
    run = run or a_run()
    cleanup = more.pop("cleanup", None)
    await provision(
        run,
        guest,
        ALL.validate_python(list(provisioners)),
        base=base,
        facts=more.pop("facts", FACTS),
        error_cleanup=ONE.validate_python(cleanup) if cleanup else None,
        **more,
    )
    return run


def shell(script: str, **options: Any) -> dict[str, Any]:
    return {"type": "shell", "inline": [script], **options}


@pytest.fixture
def guest() -> ScriptedGuest:
    return ScriptedGuest()


async def test_each_is_a_step_with_its_label(guest: ScriptedGuest, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run = await bake(guest, shell("one", name="first %s"), shell("two"))
    assert [(step.name, step.outcome) for step in run.steps] == [
        ("provision: first %s", "done"),
        ("provision: shell 2", "done"),
    ]
    assert "[first %s] this is one" in caplog.messages


async def test_the_first_failure_is_the_last_word(guest: ScriptedGuest) -> None:
    with pytest.raises(ProvisionerFailed, match="this is fail"):
        await bake(guest, shell("one"), shell("fail"), shell("three"))
    assert guest.ran == ["one", "fail"]


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        ({"only": ["web"]}, True),
        ({"only": ["oxide-instance"]}, True),
        ({"only": ["db", "oxide-instance.web"]}, True),
        ({"only": ["db"]}, False),
        ({"only": ["oxide-instance.db"]}, False),
        ({"except": ["web"]}, False),
        ({"except": ["oxide-instance"]}, False),
        ({"except": ["oxide-instance.web"]}, False),
        ({"except": ["db"]}, True),
    ],
)
async def test_only_and_except(guest: ScriptedGuest, options: dict[str, Any], *, runs: bool) -> None:
    await bake(guest, shell("one", **options), shell("two"))
    assert guest.ran == (["one", "two"] if runs else ["two"])


async def test_overrides_of_this_build_count_the_most_particular_most(guest: ScriptedGuest) -> None:
    override = {
        "oxide-instance.web": {"inline": ["particular"]},
        "oxide-instance": {"inline": ["of the type"], "max_retries": 1},
        "db": {"inline": ["of another"]},
    }
    await bake(guest, shell("one", override=override), shell("two", override={"db": {"inline": ["of another"]}}))
    assert guest.ran == ["particular", "two"]


async def test_facts_are_in_templates_and_variables(guest: ScriptedGuest) -> None:
    await bake(guest, shell("on {{build.ID}} {{ build `SourceImageName` }} {{ .State }} {{build_name}}"))
    assert guest.ran == ["on i-1 debian {{ .State }} {{build_name}}"]
    command = next(command for command in guest.commands if command.startswith("chmod"))
    for variable in (
        "PACKER_BUILD_NAME=web",
        "PACKER_BUILDER_TYPE=oxide-instance",
        f"PACKER_RUN_UUID={RUN}",
        f"BAKERY_RUN_ID={RUN}",
        "BAKERY_ATTEMPT=1",
        "BAKERY_SOURCE_IMAGE_NAME=debian",
        "BAKERY_SOURCE_IMAGE_ID=s-1",
        "BAKERY_INSTANCE_ID=i-1",
    ):
        assert f" {variable} " in command
    assert "BAKERY_HOST" not in command


async def test_a_fact_that_this_build_does_not_know(guest: ScriptedGuest) -> None:
    with pytest.raises(ProvisionerFailed, match=r"\{\{build\.Host\}\} has no value"):
        await bake(guest, shell("{{build.Host}}"))


async def test_a_pause_before_does_not_switch_off_the_timeout(guest: ScriptedGuest) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(WaitExpired, match=r"not through after 0\.2 s"):
        await asyncio.wait_for(bake(guest, shell("hang", pause_before=0.4, timeout=0.2)), 60)
    assert loop.time() - began >= 0.6
    assert guest.ended == ["hang"]


async def test_the_pause_does_not_count(guest: ScriptedGuest) -> None:
    await bake(guest, shell("one", pause_before=1.2, timeout=1))
    assert guest.ran == ["one"]


async def test_a_timeout_shows_the_last_lines_and_cleans_up(guest: ScriptedGuest) -> None:
    with pytest.raises(WaitExpired) as caught:
        await bake(guest, shell("hang", timeout=0.1, name="web"))
    assert "provisioner web: it was not through after 0.1 s" in str(caught.value)
    assert "its last lines were:\n      this is hang\n" in str(caught.value)
    assert guest.commands[-1].startswith("rm -f /tmp/script_")


async def test_retries_have_pauses_that_grow(
    guest: ScriptedGuest, caplog: pytest.LogCaptureFixture, tune: Tune
) -> None:
    await bake(guest, shell("fail 3", max_retries=3))
    assert guest.ran == ["fail 3"] * 4
    pauses = [message.split("begins in ")[1].split(" s")[0] for message in caplog.messages if "begins in" in message]
    assert pauses == ["0.05", "0.1", "0.2"]


async def test_retries_come_to_an_end(guest: ScriptedGuest) -> None:
    with pytest.raises(ProvisionerFailed):
        await bake(guest, shell("fail 3", max_retries=2))
    assert len(guest.ran) == 3


async def test_every_try_has_the_whole_timeout_and_its_own_files(guest: ScriptedGuest) -> None:
    with pytest.raises(WaitExpired):
        await bake(guest, shell("hang", timeout=0.1, max_retries=2))
    assert guest.ended == ["hang"] * 3
    assert len(guest.files) == 3


async def test_what_no_try_changes_is_not_tried_again(guest: ScriptedGuest) -> None:
    with pytest.raises(SecretUnavailable):
        await bake(guest, shell("one", env={"A": {"env": "NOT_SET_ANYWHERE"}}, max_retries=3, continue_on_error=True))
    with pytest.raises(HostKeyChanged):
        await bake(guest, shell("key", max_retries=3, continue_on_error=True))
    assert guest.ran == ["key"]


async def test_going_on_after_a_failure(guest: ScriptedGuest, caplog: pytest.LogCaptureFixture) -> None:
    run = await bake(
        guest, shell("fail", continue_on_error=True), shell("hang", continue_on_error=True, timeout=0.1), shell("three")
    )
    assert guest.ran == ["fail", "hang", "three"]
    assert [step.outcome for step in run.steps] == ["failed", "failed", "done"]
    assert "[shell 1] It failed, and the build goes on" in caplog.text


class TestErrorCleanup:
    async def test_it_runs_when_a_provisioner_fails(self, guest: ScriptedGuest) -> None:
        run = a_run()
        with pytest.raises(ProvisionerFailed, match="this is fail"):
            await bake(guest, shell("one"), shell("fail"), cleanup=shell("save the logs"), run=run)
        assert guest.ran == ["one", "fail", "save the logs"]
        assert run.steps[-1].name == "error cleanup: shell"

    async def test_it_does_not_run_when_all_is_well(self, guest: ScriptedGuest) -> None:
        await bake(guest, shell("one"), shell("fail", continue_on_error=True), cleanup=shell("save the logs"))
        assert guest.ran == ["one", "fail"]

    async def test_its_own_failure_hides_nothing(self, guest: ScriptedGuest, caplog: pytest.LogCaptureFixture) -> None:
        with pytest.raises(ConnectionLost, match="it broke"):
            await bake(guest, shell("lose"), cleanup=shell("fail", name="logs"))
        assert "[error cleanup: logs] It failed, too" in caplog.text

    async def test_its_deadline_is_its_own(self, guest: ScriptedGuest) -> None:
        with pytest.raises(ProvisionerFailed):
            await asyncio.wait_for(bake(guest, shell("fail"), cleanup=shell("hang", timeout=0.1)), 60)
        assert guest.ended == ["hang"]

    async def test_it_runs_when_the_build_is_cancelled(self, guest: ScriptedGuest) -> None:
        building = asyncio.create_task(bake(guest, shell("hang"), cleanup=shell("save the logs", timeout=30)))
        async with asyncio.timeout(30):
            while not guest.ran:
                await asyncio.sleep(0.005)
        building.cancel()
        with pytest.raises(asyncio.CancelledError):
            await building
        assert guest.ran == ["hang", "save the logs"]

    async def test_it_can_be_for_other_builds(self, guest: ScriptedGuest) -> None:
        with pytest.raises(ProvisionerFailed):
            await bake(guest, shell("fail"), cleanup=shell("save the logs", only=["db"]))
        assert guest.ran == ["fail"]


class Home(ScriptedGuest):
    """A guest whose other commands really run, on this host, with a home of their own and no rights."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        self.home = home
        self.trips = 0

    async def run(self, command: str, output: Output) -> int:
        if command.startswith(("chmod +x", "rm -f /tmp/script_")):
            return await super().run(command, output)
        self.trips += 1
        process = await asyncio.create_subprocess_exec(
            "sh",
            "-c",
            # As someone who is not root and has no sudo.
            f"id() {{ echo 1000; }}; sudo() {{ return 1; }}; {command}",
            env={"HOME": str(self.home), "PATH": "/usr/bin:/bin"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output((await process.communicate())[0])
        return await process.wait()


class TestGoingOn:
    @pytest.fixture
    def guest(self, tmp_path: Path) -> Home:
        return Home(tmp_path)

    def scripts(self, *scripts: str) -> list[dict[str, Any]]:
        return [shell(script) for script in scripts]

    async def test_what_the_system_has_had_is_not_done_again(
        self, guest: Home, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        with pytest.raises(ProvisionerFailed):
            await bake(guest, *self.scripts("one", "fail 1", "three"), record=await Record.read(guest, "r-1"))
        # Another process reads what is written there.
        record = await Record.read(guest, "r-1")
        assert [entry.label for entry in record.finished] == ["shell 1"]
        assert record.begun is not None
        assert record.begun.label == "shell 2"
        await bake(guest, *self.scripts("one", "fail 1", "three"), record=record)
        assert guest.ran == ["one", "fail 1", "fail 1", "three"]
        assert "[shell 1] Skipped: this system has had it" in caplog.messages
        assert "[shell 2] An earlier attempt did not finish this: it runs again" in caplog.messages
        after = await Record.read(guest, "r-1")
        assert [entry.place for entry in after.finished] == [1, 2, 3]
        assert after.begun is None

    async def test_it_costs_one_round_trip_each_and_nothing_where_it_is_off(self, guest: Home) -> None:
        await bake(guest, *self.scripts("one", "two", "three"))
        assert guest.trips == 0
        record = await Record.read(guest, "r-1")
        assert guest.trips == 1
        await bake(guest, *self.scripts("one", "two", "three"), record=record)
        assert guest.trips == 1 + 1 + 3
        await bake(guest, *self.scripts("one", "two", "three"), record=await Record.read(guest, "r-1"))
        assert guest.trips == 1 + 1 + 3 + 1

    async def test_what_is_not_finished_may_change(self, guest: Home) -> None:
        with pytest.raises(ProvisionerFailed):
            await bake(guest, *self.scripts("one", "fail"), record=await Record.read(guest, "r-1"))
        await bake(guest, *self.scripts("one", "two", "three"), record=await Record.read(guest, "r-1"))
        assert guest.ran == ["one", "fail", "two", "three"]

    @pytest.mark.parametrize(
        ("now", "says"),
        [
            (["other", "fail"], r"provisioner 1 \(shell 1\): the definition was changed .*: the system has had it"),
            ([], "no longer has it"),
        ],
    )
    async def test_what_is_finished_may_not_change(self, guest: Home, now: Sequence[str], says: str) -> None:
        with pytest.raises(ProvisionerFailed):
            await bake(guest, *self.scripts("one", "fail"), record=await Record.read(guest, "r-1"))
        with pytest.raises(RecordMismatch, match=says):
            await bake(
                guest, *self.scripts(*now), record=await Record.read(guest, "r-1"), cleanup=shell("save the logs")
            )
        assert guest.ran == ["one", "fail"]

    async def test_a_failure_that_the_build_went_on_after_is_finished(self, guest: Home) -> None:
        provisioners = [shell("fail", continue_on_error=True), shell("fail 1")]
        with pytest.raises(ProvisionerFailed):
            await bake(guest, *provisioners, record=await Record.read(guest, "r-1"))
        await bake(guest, *provisioners, record=await Record.read(guest, "r-1"))
        assert guest.ran == ["fail", "fail 1", "fail 1"]

    async def test_provisioners_of_other_builds_are_not_in_the_record(self, guest: Home) -> None:
        provisioners = [shell("one", only=["db"]), shell("two")]
        await bake(guest, *provisioners, record=await Record.read(guest, "r-1"))
        assert [entry.place for entry in (await Record.read(guest, "r-1")).finished] == [2]


def test_labels() -> None:
    found = ALL.validate_python([shell("x", name="web"), shell("y"), {"type": "sleep", "duration": "1s"}])
    assert list(labels(found)) == ["web", "shell 2", "sleep 3"]


async def test_a_step_is_a_task_that_is_not_tried_again() -> None:
    from tasks.step import step

    made = step("provision: x", retries=0)(provision_module._try)
    assert isinstance(made, Task)
    assert made.retries == 0
