"""A lane: a region, a Prefect server and a host of their own, in which one point runs after the other.

It is a process in PID and mount namespaces of its own, like a container: all that a build leaves on the host is in
them, and another lane's builds are not. It reads points from its standard input, one JSON object a line, and answers
each with an outcome.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.chaos.canaries import Canaries, Canary
from tests.chaos.census import MOUNTS, PREFECTS, Census, command_line, descendants, is_zombie, parent, pids
from tests.chaos.points import Outcome, Point
from tests.chaos.proxy import Proxy
from tests.chaos.strangers import OutscaleApi, settle
from tests.end_to_end.world import (
    ROOT,
    OutscaleRegion,
    OxideRegion,
    Prefect,
    Region,
    outscale_region,
    oxide_region,
    prefect_server,
    write_definition,
)

CLEAN_WITHIN = 60
"""Seconds within which nothing may be left on the host that built."""
STRANGERS = 200
BUILD_LIMIT = 240
"""Seconds after which a build hangs."""

KEPT_LOGS = ROOT / "var/chaos"
"""The logs of points that failed."""

_SECRET = "BAKERY_CANARY"
# The last two are started by Prefect itself below a served flow, before a build's code has a say.
_BUILDERS = ("flows.", "prefect", "tests.chaos", "multiprocessing.", "git log -1", "git rev-parse --abbrev-ref HEAD")
_SETTINGS = {
    "IMAGE_BAKERY_API_TIMEOUT": "4",
    "IMAGE_BAKERY_API_RETRY_TIME": "15",
    "IMAGE_BAKERY_SETTLE_TIME": "6",
    "IMAGE_BAKERY_STOP_TIMEOUT": "20",
    "IMAGE_BAKERY_SHUTDOWN_TIMEOUT": "20",
    "IMAGE_BAKERY_TEARDOWN_TIMEOUT": "50",
    "IMAGE_BAKERY_OUTSCALE_RATE": "100",
    "IMAGE_BAKERY_PROVISIONER_RETRY_PAUSE": "0.2",
}
"""So that what takes minutes by default takes seconds here."""


_READ = 4 << 20


class Build:
    """A build, or another program of the product, that was started on its own."""

    def __init__(self, child: subprocess.Popen[bytes], log: Path) -> None:
        self.child = child
        self.pid = child.pid
        self.log = log
        self.ended_at = 0.0

    @property
    def said(self) -> str:
        """What it has printed so far; of a great deal the end."""
        with self.log.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _READ))
            return log.read().decode(errors="replace")

    def run(self) -> str | None:
        """The flow run's id, once it is known."""
        found = re.search(r"/runs/flow-run/([0-9a-f-]{36})", self.said)
        return found[1] if found else None

    def wait(self, seconds: float = BUILD_LIMIT) -> int | None:
        """The exit code; None when it did not end in time, and had to be killed."""
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            kill(self.pid)
            self.child.wait()
            return None
        finally:
            self.ended_at = time.monotonic()


def kill(pid: int) -> None:
    """As `kill -9` does."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def reapers_of(pid: int) -> list[int]:
    """The reapers below a process."""
    return [below for below in descendants([pid]) if "tasks.reaper" in command_line(below)]


class Lane:
    """What a scenario has at hand."""

    def __init__(self, kind: str, directory: Path, guest: Path, stack: ExitStack, strangers: int = STRANGERS) -> None:
        self.kind = kind
        self.builder = "outscale" if kind.startswith("outscale") else "oxide"
        self.directory = directory
        self.home = directory / "home"
        self.temporary = directory / "tmp"
        self.logs = directory / "logs"
        for path in (self.home, self.temporary, self.logs):
            path.mkdir(mode=0o700)
        (directory / "server").mkdir()
        self._guest = guest
        self._stack = stack
        self.number = 0
        self.alone: set[int] = set()
        """Workers and the like: they are no build's, what is below them is."""
        self.kept: dict[str, Any] = {}
        """What scenarios keep from one point to the next."""
        self._own: set[int] = set()
        self.prefect: Prefect = stack.enter_context(prefect_server(directory / "server"))
        self.bystanders: set[int] = self._children()
        self.region: Region
        self._settled: Census
        self.proxy: Proxy
        self.enter_region(strangers)

    def _children(self) -> set[int]:
        return {pid for pid in pids() if parent(pid) == os.getpid()}

    def enter_region(self, strangers: int) -> None:
        """Start the region, and let the strangers settle there."""
        before = self._children()
        directory = self.directory / "place"
        directory.mkdir()
        machines = "qemu" if self.kind.endswith("qemu") else "cheap"
        context = (
            outscale_region(directory, self._guest)
            if self.builder == "outscale"
            else oxide_region(directory, self._guest, machines)
        )
        self.region = self._stack.enter_context(context)
        self.bystanders |= self._children() - before
        self.proxy = Proxy(self.region.ready["api"])
        self._stack.enter_context(self.proxy.serving())
        settle(self.region, strangers)
        self.canaries = Canaries(self._secrets(), _BUILDERS, Path("/"))
        self._settled = self.census()

    def _secrets(self) -> Iterator[Canary]:
        self.secret = f"canary{os.urandom(8).hex()}"
        yield Canary("a provisioner's secret", self.secret, in_guests=True)
        if isinstance(self.region, OxideRegion):
            yield Canary("the token", Path(self.region.ready["token_file"]).read_text(encoding="utf-8").strip())
        else:
            yield Canary("the secret key", self.region.env["OSC_SECRET_KEY"])

    @property
    def env(self) -> dict[str, str]:
        """What a build sees."""
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_URL": self.prefect.api,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "IMAGE_BAKERY_STATE_DIR": str(self.home / "state"),
            "IMAGE_BAKERY_SERVER": "local",
            "DO_NOT_TRACK": "1",
            "PYTHONUNBUFFERED": "1",
            _SECRET: self.secret,
            **_SETTINGS,
            **self.region.env,
        }
        if isinstance(self.region, OutscaleRegion):
            env["OSC_ENDPOINT_API"] = self.api_through_proxy
        return env

    @property
    def api_through_proxy(self) -> str:
        """The region's API, as builds reach it."""
        return f"{self.proxy.url}{urlsplit(self.region.ready['api']).path}"

    def definition(self, *provisioners: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """A build whose requests pass the proxy, and which has a secret."""
        secret = {
            "type": "shell",
            "name": "secret",
            "env": {"CANARY": {"env": _SECRET}},
            "inline": ['test -n "$CANARY"', 'echo "it is $CANARY"'],
        }
        named = self.artifact_named(f"chaos-{self.number}")
        if isinstance(self.region, OxideRegion):
            # A virtual machine boots slowly where others build beside it.
            patience = "3m" if self.kind.endswith("qemu") else "30s"
            named |= {"host": self.api_through_proxy, "ssh_timeout": patience}
        return self.region.definition(secret, *provisioners, **{**named, **options})

    def artifact_named(self, name: str) -> dict[str, str]:
        """The option that names the artifact."""
        return {"artifact_name" if self.builder == "oxide" else "omi_name": name}

    def census(self) -> Census:
        """What exists now."""
        reap_orphans(self.bystanders | self._own)
        return Census.take(self.region, bystanders=self.bystanders, alone=self.alone, files=[self.home, self.temporary])

    def write(self, definition: Mapping[str, Any]) -> Path:
        """Write the definition of this point's build."""
        return write_definition(self.logs / f"{self.number}.yaml", definition)

    def start(self, *words: str, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()) -> Build:
        """Start `python -m …`, in a session of its own."""
        return self._start([*prefix, sys.executable, "-m", *words], env)

    def start_program(self, program: str, env: Mapping[str, str]) -> Build:
        """Start a program that is given as text."""
        return self._start([sys.executable, "-c", program], env)

    def _start(self, argv: Sequence[str], env: Mapping[str, str] | None) -> Build:
        log = self.logs / f"{self.number}.log"
        with log.open("ab") as output:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.env if env is None else dict(env),
                cwd=ROOT,
                start_new_session=True,
            )
        self._own.add(child.pid)
        return Build(child, log)

    def start_build(self, definition: Mapping[str, Any], env: Mapping[str, str] | None = None) -> Build:
        """Start a build from the command line."""
        return self.start(f"flows.{self.region.package}", str(self.write(definition)), env=env)

    def clean_after(self, before: Census, since: float, within: float = CLEAN_WITHIN) -> tuple[float, list[str]]:
        """Wait until nothing is left: how long it took since a moment, and what is left all the same."""
        while True:
            left = self.census().since(before)
            seconds = time.monotonic() - since
            if not left or seconds > within:
                return seconds, left
            time.sleep(0.2)

    def touched(self) -> list[str]:
        """What belongs to others, and is gone or changed."""
        now = self.census().resources
        return [
            f"{key} {record.get('name')}: {'changed' if key in now else 'gone'}"
            for key, record in self._settled.resources.items()
            if now.get(key) != record
        ]

    def search_secrets(self) -> list[str]:
        """Where secrets have been seen."""
        files = [
            *self.logs.iterdir(),
            *(self.directory / "server").rglob("*"),
            *(path for path in self.home.rglob("*") if path.is_file()),
            *(path for path in self.temporary.rglob("*") if path.is_file()),
        ]
        self.canaries.search_database(self.directory / "server" / "prefect" / "prefect.db")
        self.canaries.search_files(path for path in files if path.is_file() and not PREFECTS.search(str(path)))
        return self.canaries.seen()

    def remove_artifacts(self, before: Census) -> None:
        """Remove the images that builds have finished, as their owner would who needs them no more."""
        made = self.census().artifacts_since(before)
        if isinstance(self.region, OutscaleRegion):
            api = OutscaleApi(self.region)
            for image in made:
                api.call("DeleteImage", ImageId=image["id"])
                for snapshot in image["snapshot_ids"]:
                    api.call("DeleteSnapshot", SnapshotId=snapshot)
        elif made:
            token = Path(self.region.ready["token_file"]).read_text(encoding="utf-8").strip()
            for image in made:
                httpx.delete(
                    f"{self.region.ready['api']}/v1/images/{image['id']}",
                    headers={"Authorization": f"Bearer {token}"},
                    trust_env=False,
                    timeout=60,
                ).raise_for_status()

    @contextmanager
    def bystanding(self) -> Iterator[None]:
        """What is started in the block and called settled there is no build's."""
        before = set(self.bystanders)
        try:
            yield
        finally:
            self.bystanders = before

    def settle_processes(self) -> None:
        """Whatever runs below this process now, and is not started as a build is, is no build's."""
        self.bystanders |= self._children() - self._own

    def keep_logs(self, name: str) -> Path:
        """Copy what tells why a point failed to where it outlasts the lane."""
        kept = KEPT_LOGS / name.replace("/", "_")
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        reaper = self.home / "state" / "reaper.log"
        for log in [*self.logs.glob(f"{self.number}*"), reaper, self.directory / "place" / "region.log"]:
            if log.exists():
                shutil.copy(log, kept / log.name)
        return kept

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the region's control endpoint."""
        reply = httpx.request(
            method, f"{self.region.ready['control']}{path}", json=body, trust_env=False, timeout=30
        ).raise_for_status()
        return reply.json() if reply.content else None


def run_point(lane: Lane, point: Point, scenario: Callable[[Lane, Point, Census], Outcome]) -> Outcome:
    """Run one point, and look at everything afterwards."""
    lane.number += 1
    started = time.monotonic()
    before = lane.census()
    with lane.canaries.watched():
        try:
            outcome = scenario(lane, point, before)
        finally:
            lane.proxy.set(None)
            lane.control("DELETE", "/faults")
    lane.remove_artifacts(before)
    outcome.touched += lane.touched()
    outcome.secrets += lane.search_secrets()
    outcome.seconds = time.monotonic() - started
    if not outcome.is_good:
        outcome.log = str(lane.keep_logs(point.id))
    return outcome


def reap_orphans(own: Collection[int]) -> None:
    """Reap what others left: in a PID namespace of its own that is for a lane to do."""
    if os.getpid() == 1:
        for pid in pids():
            if pid not in own and parent(pid) == 1 and is_zombie(pid):
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


@contextmanager
def lane_of(kind: str, guest: Path, strangers: int = STRANGERS) -> Iterator[Lane]:
    """A lane in this process."""
    # A short path: sockets are below it.
    directory = Path(f"/tmp/chaos-{kind}-{os.urandom(3).hex()}")
    directory.mkdir(mode=0o700)
    try:
        MOUNTS.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--make-rshared", "/"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=1m", "chaos", str(MOUNTS)], check=True)
        with ExitStack() as stack:
            yield Lane(kind, directory, guest, stack, strangers)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
