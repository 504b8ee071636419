"""Whole builds whose way into the guest is another than the default, on cheap machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.test_bake import bake
from tests.end_to_end.world import OxideRegion, Prefect

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("prefect")]


def authorized(region: OxideRegion) -> str:
    """The keys that an image's root lets in."""
    (image,) = region.made()["images"]
    path = Path(f"{image['path']}.root/root/.ssh/authorized_keys")
    return path.read_text() if path.exists() else ""


def test_nothing_logs_in(cheap_region: OxideRegion, prefect: Prefect, tmp_path: Path) -> None:
    definition = cheap_region.definition(communicator="none")
    done = bake(definition, dict(prefect.env), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "its power is cut" in done.stderr
    assert "Connected to" not in done.stderr
    assert "create temporary key" not in done.stdout
    assert set(cheap_region.made()) == {"images"}
    assert authorized(cheap_region) == ""


def test_a_named_key_that_is_left_in_the_image(cheap_region: OxideRegion, prefect: Prefect, tmp_path: Path) -> None:
    definition = cheap_region.definition(
        {"type": "shell", "inline": ["echo the key is in"]},
        temporary_key_pair_name="key-of-{{build_name}}",
        ssh_clear_authorized_keys=False,
        temporary_key_pair_type="rsa",
    )
    done = bake(definition, dict(prefect.env), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "temporary_key_pair_type is rsa" in done.stderr
    assert "Connected to root@" in done.stderr
    assert "whose host key is SHA256:" in done.stderr
    assert "forget temporary key" not in done.stdout
    assert authorized(cheap_region).startswith("ssh-ed25519 ")
    assert set(cheap_region.made()) == {"images"}


def test_a_guest_that_takes_no_host_key_is_not_trusted(
    cheap_region: OxideRegion, prefect: Prefect, tmp_path: Path
) -> None:
    done = bake(cheap_region.definition(ssh_host_key="injected"), dict(prefect.env), tmp_path)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "the guest's host key is another than the one that it was given" in said
    assert "ssh_host_key: pinned" in said
    assert "The end of the instance's serial console" in said
    assert "OPENSSH PRIVATE KEY" not in said
    assert cheap_region.made() == {}


def test_where_nobody_answers(cheap_region: OxideRegion, prefect: Prefect, tmp_path: Path) -> None:
    # With a host of its own, the instance's address is not asked for.
    definition = cheap_region.definition(ssh_host="127.0.0.1", ssh_port=1, ssh_timeout="2s")
    done = bake(definition, dict(prefect.env), tmp_path)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "127.0.0.1 port 1: no SSH server answered within 2 s: Connection refused" in said
    assert "find address" not in done.stdout
    assert "The end of the instance's serial console" in said
    assert cheap_region.made() == {}
