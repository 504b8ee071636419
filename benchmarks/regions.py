"""Regions in a box with fixed latencies, and what was asked of them."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import httpx
import yaml

from benchmarks.programs import BenchmarkFailed, clean_environment, eventually, program
from emulators.region.home import Home

_READY = 120


@dataclass
class Calls:
    """What was asked of a region, by operation."""

    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Region(ABC):
    """A region in a box."""

    ready: Mapping[str, Any]
    control: httpx.AsyncClient
    pid: int

    builder: ClassVar[str]
    waits: ClassVar[frozenset[str]]
    """Operations of which a build makes as many as it takes until something is through."""
    of_the_benchmark: ClassVar[frozenset[str]] = frozenset()
    """Operations that only the benchmark itself asks for."""

    @property
    def env(self) -> dict[str, str]:
        """What a build's environment has to say about this region."""
        return {}

    @abstractmethod
    async def definition(self) -> dict[str, Any]:
        """A build definition for this region, without provisioners."""

    @abstractmethod
    async def floor_env(self) -> dict[str, str]:
        """What the floor's script has to know."""

    @abstractmethod
    async def tidy(self) -> None:
        """Remove what finished builds have left, so that the next ones find what the first ones found."""

    async def resources(self) -> dict[str, list[dict[str, Any]]]:
        """What exists."""
        resources: dict[str, list[dict[str, Any]]] = (await self.control.get("/inventory")).json()["resources"]
        return resources

    async def write_definition(self, path: Path, provisioners: list[dict[str, Any]]) -> Path:
        """Write a build definition as YAML."""
        definition = {**await self.definition(), "provisioners": provisioners}
        path.write_text(yaml.safe_dump(definition), encoding="utf-8")
        return path

    @asynccontextmanager
    async def counted(self) -> AsyncIterator[Calls]:
        """Count what is asked for while the block runs."""
        calls = Calls()
        since = (await self._requests(0))["last"]
        yield calls
        asked = (await self._requests(since))["requests"]
        calls.counts.update(
            request["operation"] for request in asked if request["operation"] not in self.of_the_benchmark
        )

    async def _requests(self, since: int) -> dict[str, Any]:
        requests: dict[str, Any] = (await self.control.get("/requests", params={"since": since})).json()
        return requests


class OxideRegion(Region):
    """An Oxide region."""

    builder = "oxide-instance"
    waits = frozenset({"instance_view"})
    of_the_benchmark = frozenset({"instance_serial_console"})

    async def definition(self) -> dict[str, Any]:
        """A build definition: the smallest instance, of the tiny guest."""
        return {
            "build_name": "benchmark",
            "boot_disk_image_id": "tiny",
            "project": self.ready["project"],
            "host": self.ready["api"],
            "token": {"file": self.ready["token_file"]},
            "memory": "1GiB",
            "boot_disk_size": "1GiB",
            "ssh_username": "root",
            "ssh_port": self.ready["ssh_port"],
        }

    async def floor_env(self) -> dict[str, str]:
        """Where the API is, its token's file, and how guests are reached."""
        return {
            "HOST": self.ready["api"],
            "TOKEN_FILE": self.ready["token_file"],
            "PROJECT": self.ready["project"],
            "IMAGE": "tiny",
            "SSH_PORT": str(self.ready["ssh_port"]),
        }

    async def tidy(self) -> None:
        """Remove all images but the region's own."""
        token = Path(self.ready["token_file"]).read_text(encoding="utf-8").strip()
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=self.ready["api"], headers=headers, trust_env=False, timeout=30) as api:
            for image in (await self.resources())["images"]:
                if not image["of_region"]:
                    (await api.delete(f"/v1/images/{image['id']}")).raise_for_status()


class OutscaleRegion(Region):
    """An OUTSCALE region, whose one VM is this host."""

    builder = "outscale-chroot"
    waits = frozenset({"ReadVolumes", "ReadSnapshots", "ReadImages"})

    @property
    def env(self) -> dict[str, str]:
        """Credentials and endpoints."""
        credentials = json.loads(Path(self.ready["credentials_file"]).read_text(encoding="utf-8"))
        return {
            "OSC_ACCESS_KEY": credentials["access_key"],
            "OSC_SECRET_KEY": credentials["secret_key"],
            "OSC_REGION": credentials["region"],
            "OSC_ENDPOINT_API": self.ready["api"],
            "IMAGE_BAKERY_OUTSCALE_METADATA": self.ready["metadata"],
        }

    async def definition(self) -> dict[str, Any]:
        """A build definition."""
        return {"build_name": "benchmark", "source_omi": await self._source()}

    async def floor_env(self) -> dict[str, str]:
        """As a build's, and the source OMI."""
        return {**self.env, "SOURCE_OMI": await self._source()}

    async def tidy(self) -> None:
        """Nothing: a few OMIs more change nothing that is measured."""

    async def _source(self) -> str:
        return next(str(image["id"]) for image in (await self.resources())["images"] if image["of_region"])


@asynccontextmanager
async def oxide_region(
    directory: Path,
    guest: Path,
    machines: str,
    *,
    start: float,
    stop: float,
    boot: float | None = None,
    more: Sequence[str] = (),
) -> AsyncIterator[OxideRegion]:
    """An Oxide region.

    Args:
        directory: Where it keeps everything.
        guest: Its one image.
        machines: What its instances are: `cheap` or `qemu`.
        start: Seconds from an instance's create to `running`.
        stop: Seconds from a stop to `stopped`.
        boot: Seconds that a cheap machine takes to boot.
        more: More options of its command.
    """
    options = ["--machines", machines, "--start-seconds", str(start), "--stop-seconds", str(stop), *more]
    async with _serving("emulators.oxide", directory, guest, options) as (ready, control, pid):
        region = OxideRegion(ready, control, pid)
        if boot:
            fault = {"operation": "instance_create", "kind": "slow_boot", "seconds": boot, "count": None}
            (await control.post("/faults", json=fault)).raise_for_status()
        yield region


@asynccontextmanager
async def outscale_region(
    directory: Path, guest: Path, times: Mapping[str, float], *, more: Sequence[str] = ()
) -> AsyncIterator[OutscaleRegion]:
    """An OUTSCALE region with block devices on this host.

    Args:
        directory: Where it keeps everything.
        guest: Its one image.
        times: Seconds for `volume`, `link`, `unlink`, `snapshot` and `image`.
        more: More options of its command.
    """
    options = [*(word for name, seconds in times.items() for word in (f"--{name}-seconds", str(seconds))), *more]
    async with _serving("emulators.outscale", directory, guest, options) as (ready, control, pid):
        yield OutscaleRegion(ready, control, pid)


@asynccontextmanager
async def _serving(
    module: str, directory: Path, guest: Path, options: list[str]
) -> AsyncIterator[tuple[dict[str, Any], httpx.AsyncClient, int]]:
    home = Home(directory)
    home.make()
    argv = [sys.executable, "-m", module, "serve", "--state", str(directory), "--image", str(guest), *options]
    async with program(argv, log=home.log_file, env=clean_environment()) as child:

        async def ready() -> dict[str, Any] | None:
            if child.returncode is not None:
                raise BenchmarkFailed(f"the region ended: see {home.log_file}")
            return home.ready()

        said = await eventually(ready, _READY, f"the region is ready: see {home.log_file}")
        async with httpx.AsyncClient(base_url=said["control"], trust_env=False, timeout=30) as control:
            yield said, control, child.pid
