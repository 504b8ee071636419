"""Pools and quotas: what follows from what the region has, without asking again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from blocks.oxide.models import GIB, Amounts, IpPool, Utilization
from flows.oxide_image.definition import OxideImageDefinition
from tasks.oxide.found import Found, mistakes_in_amounts, mistakes_in_pools

NOW = datetime.now(UTC)


def options(**given: Any) -> OxideImageDefinition:
    least = {
        "boot_disk_image_id": "x",
        "project": "p",
        "ssh_username": "u",
        "memory": "4GiB",
        "boot_disk_size": "10GiB",
    }
    return OxideImageDefinition.model_validate({**least, **given})


def pool(name: str, version: str = "v4", *, default: bool = False, kind: str = "unicast") -> IpPool:
    return IpPool(
        id=f"id-of-{name}", name=name, description="", time_created=NOW,
        ip_version=version, pool_type=kind, is_default=default,
    )  # fmt: skip


POOLS = [
    pool("four", default=True),
    pool("six", "v6"),
    pool("other"),
    pool("many", default=True, kind="multicast"),
    pool("many-six", "v6", default=True, kind="multicast"),
]


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, []),
        ({"ip_version": "dual"}, []),
        ({"ip_version": "v6"}, ["ip_pool"]),
        ({"ip_version": "v6", "ip_pool": "six"}, []),
        ({"ip_version": "dual", "ip_pool": "six"}, []),
        ({"ip_pool": "six"}, ["ip_pool"]),
        ({"ip_pool": "many"}, ["ip_pool"]),
        ({"ip_pools": ["other", "four"]}, []),
        ({"ip_pools": ["other", "six", "none-such"]}, ["ip_pools[1]", "ip_pools[2]"]),
    ],
)
def test_pools(given: dict[str, Any], wrong: list[str]) -> None:
    assert [mistake.option for mistake in mistakes_in_pools(options(**given), Found(pools=POOLS))] == wrong
    assert mistakes_in_pools(options(**given), Found(pools=None)) == []


def amounts(cpus: int, memory: int, storage: int) -> Amounts:
    return Amounts(cpus=cpus, memory=memory * GIB, storage=storage * GIB)


@pytest.mark.parametrize(
    ("given", "quota", "used", "wrong"),
    [
        ({}, amounts(1, 4, 20), amounts(0, 0, 0), {}),
        ({}, amounts(8, 32, 100), amounts(7, 28, 80), {}),
        ({}, amounts(8, 32, 100), amounts(8, 29, 81), {"cpus": "0 of", "memory": "3 of", "boot_disk_size": "19 of"}),
        ({}, amounts(8, 32, 100), amounts(9, 0, 0), {"cpus": "0 of"}),
        # It may pass.
        ({"capacity_retry": "1h"}, amounts(8, 32, 100), amounts(8, 29, 81), {}),
        # It never will.
        ({"capacity_retry": "1h", "cpus": 9}, amounts(8, 32, 100), amounts(0, 0, 0), {"cpus": "quota is 8"}),
        # No snapshot is taken.
        ({"skip_create_image": True}, amounts(1, 4, 10), amounts(0, 0, 0), {}),
        (
            {"extra_disks": [{"name": "a", "size": "5GiB"}]},
            amounts(1, 4, 24),
            amounts(0, 0, 0),
            {"boot_disk_size": "25 GiB of storage"},
        ),
    ],
)
def test_quotas(given: dict[str, Any], quota: Amounts, used: Amounts, wrong: dict[str, str]) -> None:
    found = Found(utilization=Utilization(capacity=quota, provisioned=used))
    mistakes = {mistake.option: mistake.rule for mistake in mistakes_in_amounts(options(**given), found)}
    assert list(mistakes) == list(wrong)
    for option, text in wrong.items():
        assert text in mistakes[option]
