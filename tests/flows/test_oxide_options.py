"""The options of `oxide-instance`: forms, defaults, what does not go together, names from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from blocks.errors import DefinitionError, Mistake
from blocks.oxide.models import GIB
from flows.check import check
from flows.oxide_image.definition import OxideImageDefinition
from tasks.oxide.instance_options import ExtraDisk, FloatingIpChoice
from tasks.oxide.option_types import ImageByName

REQUIRED = {"boot_disk_image_id": "x", "project": "p", "ssh_username": "u"}
ID = "0f0e0d0c-0b0a-4908-8706-050403020100"


def definition(**given: Any) -> OxideImageDefinition:
    return check(OxideImageDefinition, {**REQUIRED, **given})


def mistakes(**given: Any) -> list[Mistake]:
    with pytest.raises(DefinitionError) as caught:
        definition(**given)
    return list(caught.value.mistakes)


def test_zeros_and_empty_texts_ask_for_the_default() -> None:
    build = definition(cpus=0, memory=0, boot_disk_size=0, artifact_os="", artifact_version="", artifact_description="")
    assert (build.cpus, build.memory, build.boot_disk_size) == (1, 2 * GIB, 20 * GIB)


@pytest.mark.parametrize("size", [3 * GIB, str(3 * GIB), "3GiB", "3 GiB", "3072MiB"])
def test_sizes(size: object) -> None:
    build = definition(memory=size, boot_disk_size=size, extra_disks=[{"name": "a", "size": size}])
    assert [build.memory, build.boot_disk_size, build.extra_disks[0].size] == [3 * GIB] * 3


@pytest.mark.parametrize(
    ("given", "is_now"),
    [
        ("x", "x"),
        (ID, ID),
        ({"name": "x"}, ImageByName(name="x")),
        ({"name": "x", "project": "q"}, ImageByName(name="x", project="q")),
    ],
)
def test_source_images(given: object, is_now: object) -> None:
    assert definition(boot_disk_image_id=given).boot_disk_image_id == is_now


@pytest.mark.parametrize("given", ["Up", "", 7, {}, {"nam": "x"}, {"name": "x", "project": "Q"}, ["x"], "x" * 64])
def test_source_images_that_are_none_are_one_mistake(given: object) -> None:
    (mistake,) = mistakes(boot_disk_image_id=given)
    assert mistake.option == "boot_disk_image_id"
    assert "{name: …, project: …}" in mistake.rule


@pytest.mark.parametrize(
    ("given", "is_now"),
    [("ephemeral", "ephemeral"), ("none", "none"), ({"floating": "mine"}, FloatingIpChoice(floating="mine"))],
)
def test_external_addresses(given: object, is_now: object) -> None:
    assert definition(external_ip=given).external_ip == is_now


@pytest.mark.parametrize("given", ["floating", None, {"floating": ""}, {"ephemeral": "x"}, True, "None"])
def test_external_addresses_that_are_none_are_one_mistake(given: object) -> None:
    (mistake,) = mistakes(external_ip=given)
    assert mistake.option == "external_ip"
    assert "ephemeral, none or {floating: NAME}" in mistake.rule


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"user_data": "a", "user_data_file": "b"}, ["user_data_file", "user_data_file"]),
        ({"user_data_file": "gone"}, ["user_data_file"]),
        ({"user_data_file": "."}, ["user_data_file"]),
        ({"user_data": "ä" * 16385}, ["user_data"]),
        ({"ip_pool": "a", "ip_pools": ["b"]}, ["ip_pools"]),
        ({"ip_pool": "a", "external_ip": "none"}, ["ip_pool"]),
        ({"ip_pools": ["a"], "external_ip": {"floating": "f"}}, ["ip_pools"]),
        ({"ip_pools": ["a", "B"]}, ["ip_pools[1]"]),
        ({"ip_version": "v5"}, ["ip_version"]),
        ({"ssh_public_keys": ["k"] * 100}, ["ssh_public_keys"]),
        ({"ssh_public_keys": ["a key"]}, ["ssh_public_keys[0]"]),
        ({"anti_affinity_groups": [""]}, ["anti_affinity_groups[0]"]),
        ({"extra_disks": [{"name": "a", "size": "1GiB"}] * 2}, ["extra_disks[1].name"]),
        ({"extra_disks": [{"name": "a", "size": "1GiB"}] * 12}, ["extra_disks"]),
        ({"extra_disks": [{"name": "a"}]}, ["extra_disks[0]"]),
        ({"extra_disks": [{"name": "a", "image": "i", "snapshot": "s"}]}, ["extra_disks[0]"]),
        ({"extra_disks": [{"name": "a", "size": "1500MiB"}]}, ["extra_disks[0].size"]),
        ({"extra_disks": [{"name": "A_b", "size": "1GiB"}]}, ["extra_disks[0].name"]),
        ({"project": "My Project"}, ["project"]),
        ({"vpc": "{{vpc}}"}, ["vpc"]),
        ({"memory": "1537GiB"}, ["memory"]),
        ({"boot_disk_size": "1024GiB"}, ["boot_disk_size"]),
        ({"cpus": -1, "start_timeout": 0, "stop_timeout": "soon"}, ["cpus", "start_timeout", "stop_timeout"]),
        ({"artifact_name": "Web", "name": "x" * 64, "hostname": "a_b"}, ["artifact_name", "name", "hostname"]),
    ],
)
def test_mistakes(given: dict[str, Any], wrong: list[str]) -> None:
    assert sorted(mistake.option for mistake in mistakes(**given)) == sorted(wrong)


def test_user_data_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "user-data").write_bytes(b"\x1f\x8b\xff" * 10_000)
    given = {**REQUIRED, "user_data_file": "user-data", "definition_file": str(tmp_path / "build.yaml")}
    build = check(OxideImageDefinition, given)
    assert build.given_user_data(build.base) == b"\x1f\x8b\xff" * 10_000
    (tmp_path / "user-data").write_bytes(b"x" * 32769)
    with pytest.raises(DefinitionError, match="at most 32 KiB"):
        check(OxideImageDefinition, given)


def test_user_data_goes_as_it_is() -> None:
    text = "## template: jinja\n{{ x }}"
    assert definition(user_data=text).given_user_data(Path()) == text.encode()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("disk_size", "boot_disk_size"),
        ("image_name", "artifact_name"),
        ("ssh_keypair_name", "ssh_public_keys"),
        ("packer_force", "force"),
        ("packer_debug", "Packer itself"),
        ("anything", "is no option of this builder"),
    ],
)
def test_names_from_elsewhere_say_where_to_go(option: str, says: str) -> None:
    (mistake,) = mistakes(**{option: "x"})
    assert mistake.option == option
    assert says in mistake.rule


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"boot_disk_image_id": {"name": "x", "project": "p"}, "external_ip": {"floating": "f"}},
        {"external_ip": "none", "cpus": 0, "memory": "4GiB", "capacity_retry": "30m"},
        {"extra_disks": [{"name": "a", "size": "2GiB"}, {"name": "b", "image": {"name": "i"}}]},
        {"ip_pools": ["a", "b"], "user_data": "x", "promote": True, "force": True, "ip_version": "dual"},
    ],
)
def test_the_forms_schema_takes_what_the_definition_takes(given: dict[str, Any]) -> None:
    jsonschema.validate({**REQUIRED, **given}, OxideImageDefinition.model_json_schema())
    definition(**given)


def test_an_extra_disk_is_a_plain_form() -> None:
    properties = ExtraDisk.model_json_schema()["properties"]
    assert [name for name, option in properties.items() if not option.get("description")] == []
    assert properties["snapshot"]["type"] == "string"
