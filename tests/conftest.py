"""What tests of all rooms share: a quiet Prefect, settings that a test may set, a region in a box."""

from __future__ import annotations

import os

# Before anything imports Prefect. Tests speak to no server, and none of them tells anyone anything.
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from blocks.oxide.client import OxideClient
from blocks.settings import settings


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The tiny guest's directory; builders of several test processes wait for each other."""
    from emulators.guests import DEFAULT_DIRECTORY, DIRECTORY_VARIABLE
    from emulators.guests.build import build_guest

    here = Path(__file__).parents[1]
    output = Path(os.environ.get(DIRECTORY_VARIABLE) or here / DEFAULT_DIRECTORY)
    directory = output / "tiny"
    return directory if (directory / "image.json").exists() else build_guest("tiny", output)


Tune = Callable[..., None]


@pytest.fixture
def tune(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Tune]:
    """Set settings by name, by IMAGE_BAKERY_* variables as an operator does. Waits are short until a test says else."""

    def set_settings(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"IMAGE_BAKERY_{name.upper()}", str(value))
        settings.cache_clear()

    set_settings(
        state_dir=tmp_path / "bakery-state",
        server="local",
        api_retry_time=2,
        poll_first=0.01,
        poll_longest=0.05,
        settle_time=0,
        teardown_timeout=20,
    )
    yield set_settings
    settings.cache_clear()


@dataclass(frozen=True)
class RegionInABox:
    """An Oxide region that serves in this process, its instances on cheap machines."""

    api: str
    control: str
    token: SecretStr
    project: str
    image: str
    ssh_port: int

    async def inventory(self) -> dict[str, list[dict[str, Any]]]:
        """What exists, in the region's own words; its own project and image are left out."""
        async with httpx.AsyncClient(base_url=self.control, trust_env=False, timeout=30) as control:
            reply = await control.get("/inventory")
        resources: dict[str, list[dict[str, Any]]] = reply.json()["resources"]
        del resources["projects"]
        resources["images"] = [image for image in resources["images"] if not image["of_region"]]
        return resources

    async def names(self) -> list[str]:
        """Kind and name of all that exists."""
        inventory = await self.inventory()
        return sorted(f"{kind}/{entry['name']}" for kind, entries in inventory.items() for entry in entries)

    async def fault(self, **fault: Any) -> None:
        """Have the region do something wrong."""
        async with httpx.AsyncClient(base_url=self.control, trust_env=False, timeout=30) as control:
            (await control.post("/faults", json=fault)).raise_for_status()

    def client(self) -> OxideClient:
        """A client with the region's token."""
        return OxideClient(self.api, self.token)


@pytest.fixture
async def region(tmp_path: Path, tiny: Path, tune: Tune) -> AsyncIterator[RegionInABox]:
    """A region of its own for one test, on free ports, with the tiny guest as its image."""
    if os.geteuid() != 0:
        pytest.skip("cheap machines need root's rights")

    from emulators.machines.cheap import CheapMachines
    from emulators.oxide.service import Options, running
    from emulators.region.home import Home
    from emulators.region.sources import Source

    async def machines(ssh_port: int) -> CheapMachines:
        return CheapMachines(ssh_port=ssh_port, root=tiny / "root")

    source = Source.read(tiny)
    options = Options(home=Home(tmp_path / "region"), sources=[source])
    async with running(options, machines) as served:
        yield RegionInABox(
            api=served.api,
            control=served.control,
            token=SecretStr(served.region.token),
            project=options.project,
            image=source.name,
            ssh_port=served.region.ssh_port,
        )
