"""Hundreds of resources that others own and that look like ours: all of them must still be there afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from pydantic import SecretStr

from blocks.outscale.signing import Osc4Auth
from tests.end_to_end.world import OutscaleRegion, OxideRegion, Region, eventually

_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRoZSBzZWNvbmQgaGFsZiBvZiBhIGtleSBwYWly"
_ELSEWHERE = "11111111-2222-3333-4444-555555555555/4026531836:{}:77"
_GIB = 1 << 30


def mark(number: int, *, server: str = "0123456789abcdef", more: str = "") -> str:
    """The mark of a live build of another host and another Prefect server."""
    run = UUID(int=(0x0190 << 112) + (7 << 76) + (1 << 63) + number)
    return (
        f"image-bakery run={run} try=1 server={server} host={_ELSEWHERE.format(number + 100)} "
        f"until=2099-01-01T00:00:00Z{more}"
    )


def look_alikes(count: int) -> Iterator[tuple[str, str]]:
    """Names and descriptions that remind of ours; none is one that this host may remove."""
    kinds: list[Callable[[int], tuple[str, str]]] = [
        lambda n: (f"bakery-{n:08x}-1", f"backup of bakery-{n:08x}-1"),
        lambda n: (f"bakery-{n:08x}-1-key", f"like {mark(n)}"),
        lambda n: (f"packer-{n:08x}", ""),
        lambda n: (f"bakery-{n:08x}-2", mark(n)),
        lambda n: (f"image-bakery-{n:08x}", mark(n, server="local")),
        lambda n: (f"bakery-{n:08x}-x", mark(n).replace("until=2099", "until=soon")),
        lambda n: (f"tiny-{n:08x}", f"a fine image (image-bakery run={UUID(int=n)})"),
        lambda n: (f"kept-{n:08x}", mark(n, more=" keep=2099-01-01T00:00:00Z")),
    ]
    for number in range(count):
        yield kinds[number % len(kinds)](0xABCD0000 + number)


def settle(region: Region, count: int) -> None:
    """Make the look-alikes, `count` of them."""
    if isinstance(region, OxideRegion):
        _settle_oxide(region, count)
    else:
        assert isinstance(region, OutscaleRegion)
        _settle_outscale(region, count)


def _settle_oxide(region: OxideRegion, count: int) -> None:
    token = Path(region.ready["token_file"]).read_text(encoding="utf-8").strip()
    with httpx.Client(
        base_url=region.ready["api"], headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60
    ) as api:
        project = {"project": region.ready["project"]}

        def make(path: str, params: dict[str, str], body: dict[str, Any]) -> str:
            reply = api.post(path, params=params, json=body)
            assert reply.is_success, reply.text
            return str(reply.json()["id"])

        for number, (name, description) in enumerate(look_alikes(count)):
            told = {"name": name, "description": description}
            if number % 16 == 0:
                body = {**told, "hostname": "x", "memory": _GIB, "ncpus": 1, "start": False}
                make("/v1/instances", project, body)
            elif number % 2:
                make("/v1/me/ssh-keys", {}, {**told, "public_key": _KEY})
            else:
                blank = {"type": "distributed", "disk_source": {"type": "blank", "block_size": 512}}
                disk = make("/v1/disks", project, {**told, "size": _GIB, "disk_backend": blank})
                if number % 8 == 4:
                    snapshot = make("/v1/snapshots", project, {**told, "disk": disk})
                    source = {"type": "snapshot", "id": snapshot}
                    # An image that carries the mark of somebody's swap is theirs to finish.
                    make("/v1/images", project, {**told, "os": "x", "version": "1", "source": source})


class OutscaleApi:
    """An OUTSCALE region as its owner sees it, for what no build does."""

    def __init__(self, region: OutscaleRegion) -> None:
        env = region.env
        auth = Osc4Auth(env["OSC_ACCESS_KEY"], SecretStr(env["OSC_SECRET_KEY"]), env["OSC_REGION"])
        self._client = httpx.Client(auth=auth, trust_env=False, timeout=60)
        self._endpoint = env["OSC_ENDPOINT_API"]

    def call(self, action: str, **parameters: Any) -> dict[str, Any]:
        """One call."""
        reply = self._client.post(
            f"{self._endpoint.rstrip('/')}/{action}",
            content=json.dumps(parameters),
            headers={"content-type": "application/json"},
        )
        assert reply.is_success, f"{action}: {reply.text}"
        answer: dict[str, Any] = reply.json()
        return answer


def _settle_outscale(region: OutscaleRegion, count: int) -> None:
    api = OutscaleApi(region)
    subregion = f"{region.env['OSC_REGION']}a"
    for number, (name, description) in enumerate(look_alikes(count)):
        token = f"bakery-{0xABCD + number:032x}-1-{'volume' if number % 3 else 'disk'}"
        volume = api.call(
            "CreateVolume", SubregionName=subregion, Size=1, **({"ClientToken": token} if number % 4 else {})
        )["Volume"]["VolumeId"]
        made = [volume]
        if number % 4 == 0:
            _has_become(api, "Volume", volume, "available")
            made.append(api.call("CreateSnapshot", VolumeId=volume, Description=description)["Snapshot"]["SnapshotId"])
        if number % 8 == 0:
            _has_become(api, "Snapshot", made[-1], "completed")
            disk = {"DeviceName": "/dev/sda1", "Bsu": {"SnapshotId": made[-1]}}
            made.append(
                api.call(
                    "CreateImage",
                    ImageName=name,
                    Description=description,
                    RootDeviceName="/dev/sda1",
                    BlockDeviceMappings=[disk],
                )["Image"]["ImageId"]
            )
        api.call("CreateTags", ResourceIds=made, Tags=[{"Key": "Name", "Value": name}])
        if number % 5 == 0 and description:
            api.call("CreateTags", ResourceIds=made, Tags=[{"Key": "image-bakery", "Value": description}])


def _has_become(api: OutscaleApi, kind: str, identifier: str, state: str) -> None:
    def look() -> bool:
        (found,) = api.call(f"Read{kind}s", Filters={f"{kind}Ids": [identifier]})[f"{kind}s"]
        return bool(found["State"] == state)

    eventually(look, 60, f"{identifier} is {state}")
