"""The world around a build, each part a process of its own: a region, a Prefect server, a worker, a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

import httpx
import yaml

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


def eventually(look: Callable[[], T | None], seconds: float, what: str) -> T:
    """What a look finds, as soon as it finds something. Fails after a deadline."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)


def is_alive(pid: int) -> bool:
    """Whether a process still runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(
    argv: Sequence[str], log: Path, env: Mapping[str, str], grace: float = 2
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a group of its own, as one started at a terminal does. Its group is ended at the end."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            argv,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            env=dict(env),
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(child.pid, number)
                child.wait(grace)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        child.wait()


@dataclass(frozen=True)
class Region(ABC):
    """A region in a box, counted by its own inventory."""

    state: Path
    ready: Mapping[str, Any]

    package: ClassVar[str]
    """Of the builder's flow."""

    @property
    def env(self) -> dict[str, str]:
        """What a build's environment has to say about this region."""
        return {}

    @abstractmethod
    def definition(self, *provisioners: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """A build definition for this region."""

    @abstractmethod
    def marks(self) -> list[str]:
        """The marks of all temporary resources."""

    def inventory(self) -> dict[str, list[dict[str, Any]]]:
        """What exists, in the region's own words."""
        resources: dict[str, list[dict[str, Any]]] = httpx.get(
            f"{self.ready['control']}/inventory", trust_env=False, timeout=30
        ).json()["resources"]
        return {kind: found for kind, found in resources.items() if found}

    def fault(self, **fault: Any) -> None:
        """Have the region do something wrong."""
        reply = httpx.post(f"{self.ready['control']}/faults", json=fault, trust_env=False, timeout=30)
        reply.raise_for_status()

    def no_faults(self) -> None:
        """Have the region work again."""
        httpx.delete(f"{self.ready['control']}/faults", trust_env=False, timeout=30).raise_for_status()

    @property
    def script(self) -> str:
        """What a provisioner's script does that is to be cut: a command line that no other region's has."""
        return f"sleep 9{urlsplit(self.ready['control']).port}"

    def script_processes(self) -> list[str]:
        """The processes of that command line, on this host."""
        argv = ["pgrep", "--full", f"^{self.script}$"]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.split()

    @abstractmethod
    def made(self) -> dict[str, list[dict[str, Any]]]:
        """What exists, less what was there before any build; on this host, too, where the build uses it."""

    def builder(self) -> tuple[str, int] | None:
        """The run and the process that builds, as its mark tells, once the provisioner's script runs."""
        if not self.script_processes():
            return None
        for mark in self.marks():
            if match := re.match(r"image-bakery run=(\S+) .* host=\S+?:(\d+):", mark):
                return match[1], int(match[2])
        return None


class OxideRegion(Region):
    """An Oxide region."""

    package = "oxide_image"

    def definition(self, *provisioners: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        return {
            "build_name": "test",
            "boot_disk_image_id": "tiny",
            "project": self.ready["project"],
            "host": self.ready["api"],
            "token": {"file": self.ready["token_file"]},
            "memory": "1GiB",
            "boot_disk_size": "1GiB",
            "ssh_username": "root",
            "ssh_port": self.ready["ssh_port"],
            "ssh_timeout": "2m",
            "provisioners": list(provisioners),
            **options,
        }

    def marks(self) -> list[str]:
        return [instance["description"] for instance in self.inventory().get("instances", ())]

    def made(self) -> dict[str, list[dict[str, Any]]]:
        resources = self.inventory()
        del resources["projects"]
        resources["images"] = [image for image in resources["images"] if not image["of_region"]]
        return {kind: found for kind, found in resources.items() if found}


class OutscaleRegion(Region):
    """An OUTSCALE region, whose one VM is this host."""

    package = "outscale_image"

    @property
    def env(self) -> dict[str, str]:
        credentials = json.loads(Path(self.ready["credentials_file"]).read_text(encoding="utf-8"))
        return {
            "OSC_ACCESS_KEY": credentials["access_key"],
            "OSC_SECRET_KEY": credentials["secret_key"],
            "OSC_REGION": credentials["region"],
            "OSC_ENDPOINT_API": self.ready["api"],
            "IMAGE_BAKERY_OUTSCALE_METADATA": self.ready["metadata"],
        }

    def definition(self, *provisioners: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        source = next(image["id"] for image in self.inventory()["images"] if image["of_region"])
        return {"build_name": "test", "source_omi": source, "provisioners": list(provisioners), **options}

    def marks(self) -> list[str]:
        return [volume["tags"].get("image-bakery", "") for volume in self.inventory().get("volumes", ())]

    def made(self) -> dict[str, list[dict[str, Any]]]:
        resources = self.inventory()
        del resources["vms"]
        ours = {snapshot for image in resources["images"] if image["of_region"] for snapshot in image["snapshot_ids"]}
        resources["images"] = [image for image in resources["images"] if not image["of_region"]]
        resources["snapshots"] = [found for found in resources["snapshots"] if found["id"] not in ours]
        resources["mounts"] = [{"name": line} for line in _mounts("/mnt/image-bakery", self.state)]
        devices = subprocess.run(["losetup", "--list", "--noheadings", "--output", "BACK-FILE"], capture_output=True)
        files = devices.stdout.decode().splitlines()
        resources["devices"] = [{"name": name} for name in files if name.startswith(str(self.state))]
        resources["processes"] = [{"name": pid} for pid in self.script_processes()]
        return {kind: found for kind, found in resources.items() if found}


def _mounts(below: str, state: Path) -> Iterator[str]:
    """Mounts below a path, in the mount namespace of any process; not those of another region's volumes."""
    for table in Path("/proc").glob("[0-9]*/mountinfo"):
        with suppress(OSError):
            foreign: list[Path] = []
            # A file system comes before what is mounted in it.
            for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
                path, source = Path(line.split()[4]), line.partition(" - ")[2].split()[1]
                if not path.is_relative_to(below):
                    continue
                if _is_of_another(source, state):
                    foreign.append(path)
                if not any(path.is_relative_to(other) for other in foreign):
                    yield f"{table}: {line}"


def _is_of_another(source: str, state: Path) -> bool:
    loop = re.match(r"/dev/(loop\d+)", source)
    if not loop:
        return False
    try:
        return not Path("/sys/block", loop[1], "loop/backing_file").read_text(encoding="utf-8").startswith(str(state))
    except FileNotFoundError:
        # It was unmounted and detached since its line was read.
        return True


RegionT = TypeVar("RegionT", bound=Region)


@contextmanager
def _region(kind: type[RegionT], module: str, directory: Path, *options: str) -> Iterator[RegionT]:
    state = directory / "region"
    state.mkdir(mode=0o700, parents=True)
    argv = [
        *(sys.executable, "-m", module, "serve", "--state", str(state)),
        *("--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", *options),
    ]
    # It has machines to switch off and devices to take away.
    with process(argv, directory / "region.log", os.environ, grace=30) as child:
        ready = eventually(lambda: _ready(state, child.pid), 60, f"the region is ready; see {directory / 'region.log'}")
        yield kind(state, ready)


@contextmanager
def oxide_region(directory: Path, guest: Path, machines: str) -> Iterator[OxideRegion]:
    """An Oxide region that serves as a program of its own."""
    options = ["--machines", machines, "--image", str(guest)]
    with _region(OxideRegion, "emulators.oxide", directory, *options) as region:
        print(f"\nOxide region on {region.ready['machines']} machines")
        yield region


@contextmanager
def outscale_region(directory: Path, guest: Path, *more: str) -> Iterator[OutscaleRegion]:
    """An OUTSCALE region that serves as a program of its own, with block devices on this host."""
    options = ["--metadata", "127.0.0.1:0", "--image", str(guest), *more]
    with _region(OutscaleRegion, "emulators.outscale", directory, *options) as region:
        print("\nOUTSCALE region with block devices of this host")
        yield region


def _ready(state: Path, pid: int) -> dict[str, Any] | None:
    try:
        ready: dict[str, Any] = json.loads((state / "region.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return ready if ready["pid"] == pid else None


@dataclass(frozen=True)
class Prefect:
    """A Prefect server, and the environment in which its clients run."""

    api: str
    env: Mapping[str, str]

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the server's API."""
        for attempt in range(10):
            try:
                reply = httpx.request(method, f"{self.api}{path}", json=body, trust_env=False, timeout=60)
            except httpx.ReadTimeout:  # a disk that other tests keep busy holds SQLite up
                if not (method == "GET" or path.endswith("/filter")) or attempt == 2:
                    raise
                continue
            if reply.status_code != 503:  # SQLite was busy
                break
        if reply.is_error:
            raise AssertionError(f"{method} {path}: {reply.status_code} {reply.text}")
        return reply.json() if reply.content else None

    def state(self, run: str) -> str:
        """A flow run's state."""
        return str(self.request("GET", f"/flow_runs/{run}")["state_type"])

    def log(self, run: str) -> str:
        """What a flow run's log says so far: its lines may arrive after its state."""
        body = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        return "\n".join(line["message"] for line in self.request("POST", "/logs/filter", body))

    def log_with(self, run: str, line: str) -> str:
        """What a flow run's log says once it has this in it, such as the last line that it will have."""
        eventually(lambda: line in self.log(run), 60, f"the log of {run} has {line!r}")
        return self.log(run)

    def fleet(self) -> dict[str, dict[str, Any]]:
        """The deployments that definition files made, by name."""
        wanted = {"deployments": {"tags": {"all_": ["image-bakery-fleet"]}}}
        return {each["name"]: each for each in self.request("POST", "/deployments/filter", wanted)}

    def forget_fleet(self) -> None:
        """Remove what definition files of other tests made."""
        for deployment in self.fleet().values():
            self.request("DELETE", f"/deployments/{deployment['id']}")

    def command(self, *words: str) -> str:
        """Run Prefect's command line, and return what it says."""
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *words],
            env=dict(self.env), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@contextmanager
def in_memory() -> Iterator[Path]:
    """A directory for a database: a disk that volumes' tests keep busy holds SQLite up for long."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() else None
    with TemporaryDirectory(prefix="image-bakery-", dir=place, ignore_cleanup_errors=True) as home:
        yield Path(home)


@contextmanager
def prefect_server(directory: Path, port: int | None = None, home: Path | None = None) -> Iterator[Prefect]:
    """A Prefect server of its own, on a free port; or the former one of a directory again, on its former port.

    Args:
        directory: Keeps its log, and what its clients keep.
        port: Its former one.
        home: Keeps its database, where that is another place.
    """
    port = port or free_port()
    api = f"http://127.0.0.1:{port}/api"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "IMAGE_BAKERY_"))}
    env |= {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_HOME": str((home or directory) / "prefect"),
        "PREFECT_API_URL": api,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "IMAGE_BAKERY_STATE_DIR": str(directory / "bakery"),
        # A reaper whose region went away with its test gives up soon.
        "IMAGE_BAKERY_TEARDOWN_TIMEOUT": "30",
        "PYTHONUNBUFFERED": "1",
    }
    # As a setting of the process and not as an argument, so that the server's own pages know it too.
    argv = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with process(argv, directory / "server.log", env | {"PREFECT_SERVER_UI_API_URL": api}):
        eventually(lambda: _answers(f"{api}/health"), 120, f"the server answers; see {directory / 'server.log'}")
        yield Prefect(api, env)


def save_oxide_block(prefect: Prefect, name: str, host: str, token: str) -> None:
    """Put an Oxide Credentials block on a server."""
    script = (
        "import sys, json; from blocks.oxide.credentials import OxideCredentials; given = json.load(sys.stdin); "
        "OxideCredentials(**given).save(sys.argv[1], overwrite=True)"
    )
    subprocess.run(
        [sys.executable, "-c", script, name],
        input=json.dumps({"host": host, "token": token}),
        env=dict(prefect.env), cwd=ROOT, check=True, text=True, timeout=120,
    )  # fmt: skip


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5).is_success
    except httpx.TransportError:
        return False


def account(directory: Path, prefect: Prefect | None = None) -> dict[str, str]:
    """Somebody's own account on some host, with nothing that another process left.

    Args:
        directory: The home directory.
        prefect: A server that answers as one of the build's own would, and is there sooner.
    """
    directory.mkdir(exist_ok=True)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "PREFECT_HOME": str(directory / "prefect"),
        "IMAGE_BAKERY_STATE_DIR": str(directory / "state"),
        "DO_NOT_TRACK": "1",
    }
    return env if prefect is None else {**env, "PREFECT_API_URL": prefect.api, "IMAGE_BAKERY_SERVER": "local"}


def write_definition(path: Path, definition: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(definition)), encoding="utf-8")
    return path
