"""The options of `outscale-chroot`: each of the seed builder has its place and rule; all mistakes come at once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from blocks.errors import DefinitionError, Mistake
from flows.check import check
from flows.fleet.file import read_one
from flows.outscale_image.definition import OutscaleImageDefinition
from tasks.chroot.mounts import DEFAULT_MOUNTS

SOURCE = "ami-12345678"
SCRATCH: dict[str, Any] = {
    "from_scratch": True,
    "root_volume_size": 4,
    "root_device_name": "/dev/sda1",
    "pre_mount_commands": ["mkfs {{.Device}}"],
    "omi_block_device_mappings": [{"device_name": "/dev/sda1"}],
}

SEED = """
omi_name omi_description omi_virtualization_type omi_account_ids omi_groups omi_product_codes omi_regions
skip_region_validation tags force_deregister force_delete_snapshot snapshot_tags snapshot_account_ids snapshot_groups
omi_block_device_mappings global_permission product_codes omi_boot_modes access_key secret_key region
custom_endpoint_oapi insecure_skip_tls_verify profile x509_cert_path x509_key_path token mfa_code
skip_metadata_api_check chroot_mounts command_wrapper copy_files device_path nvme_device_path from_scratch mount_options
mount_partition mount_path pre_mount_commands post_mount_commands root_device_name root_volume_size root_volume_type
source_omi source_omi_filter root_volume_tags
"""
"""Every field that the plugin has had, in any version, but `packer_*`, which Packer sets itself."""


def defined(**options: Any) -> OutscaleImageDefinition:
    return OutscaleImageDefinition.model_validate({"source_omi": SOURCE, **options})


def mistakes(**options: Any) -> dict[str, Mistake]:
    given = options if "from_scratch" in options else {"source_omi": SOURCE, **options}
    with pytest.raises(DefinitionError) as caught:
        check(OutscaleImageDefinition, given)
    return {mistake.option: mistake for mistake in caught.value.mistakes}


def test_every_option_of_the_seed_builder_is_one_of_ours() -> None:
    assert set(SEED.split()) - set(OutscaleImageDefinition.model_fields) == set()
    mapping = OutscaleImageDefinition.model_fields["omi_block_device_mappings"].annotation
    (fields,) = [entry.model_fields for entry in getattr(mapping, "__args__", ())]
    assert set(fields) == {
        "device_name", "delete_on_vm_deletion", "volume_type", "volume_size", "iops", "snapshot_id", "no_device",
        "virtual_name",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        ("packer_force", "is called force_deregister here"),
        ("packer_on_error", "is called on_error here"),
        ("packer_build_name", "is called build_name here"),
        ("packer_debug", "is set by Packer itself"),
        ("ssh_username", "is no option of this builder"),
    ],
)
def test_what_packer_sets_itself_is_refused(option: str, rule: str) -> None:
    assert rule in mistakes(**{option: "x"})[option].rule


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"token": {"env": "TOKEN"}}, "token does nothing: the API has no session tokens"),
        ({"mfa_code": {"env": "CODE"}}, "mfa_code does nothing"),
        ({"skip_metadata_api_check": True}, "which VM it runs on"),
        ({"skip_region_validation": True}, "not validated by name"),
        ({"omi_groups": ["all"]}, "global_permission: true makes the OMI public"),
        ({"snapshot_groups": ["all"]}, "snapshot_account_ids names accounts"),
        ({"omi_product_codes": ["0001"]}, "use product_codes"),
        ({"omi_regions": ["eu-west-2"]}, "copies to no other"),
        ({"omi_virtualization_type": "hvm"}, "every OMI is hvm"),
        ({"force_delete_snapshot": True}, "nothing without force_deregister"),
        ({"omi_block_device_mappings": [{"device_name": "/dev/sda1"}]}, "the disks of its source"),
        ({"root_device_name": "/dev/sda1"}, "it is the source OMI's"),
        ({"device_path": "/dev/vdf"}, "linked as /dev/xvdf"),
        ({**SCRATCH, "source_omi": SOURCE}, "not used with from_scratch"),
        ({"source_omi": None, "source_omi_filter": {"filters": {"name": "debian*"}}}, "names no owner"),
    ],
)
def test_what_does_nothing_is_accepted_and_says_why(options: dict[str, Any], why: str) -> None:
    definition = check(OutscaleImageDefinition, {"source_omi": SOURCE, **options})
    (warning,) = definition.warnings()
    assert why in warning


@pytest.mark.parametrize(
    ("options", "option", "rule"),
    [
        ({"source_omi": None}, "source_omi", "is required, or source_omi_filter, or from_scratch"),
        ({"omi_groups": ["admins"]}, "omi_groups", "accounts and everybody only"),
        ({"snapshot_groups": ["admins"]}, "snapshot_groups", "accounts and everybody only"),
        ({"omi_virtualization_type": "pv"}, "omi_virtualization_type", "must be hvm"),
        ({"product_codes": ["1"], "omi_product_codes": ["2"]}, "omi_product_codes", "says something else"),
        ({"region": "eu-west-2", "omi_regions": ["us-east-2"]}, "omi_regions[0]", "must be eu-west-2"),
        ({"omi_boot_modes": ["bios"]}, "omi_boot_modes[0]", "'legacy' or 'uefi'"),
        ({"omi_name": "a[b]"}, "omi_name", "3 to 128 letters"),
        ({"omi_name": "a-{{nope}}"}, "omi_name", "unknown variables: nope"),
        ({"omi_account_ids": ["me"]}, "omi_account_ids[0]", "match pattern"),
        ({"tags": {"image-bakery": "x"}}, "tags.image-bakery", "knows its own resources"),
        ({"tags": {"k": "v" * 256}}, "tags.k", "at most 255"),
        ({"snapshot_tags": {"k" * 256: "v"}}, "snapshot_tags", "1 to 255"),
        ({"root_volume_tags": {"k": "{{.Nope}}"}}, "root_volume_tags.k", "unknown variables: .Nope"),
        ({"command_wrapper": "sudo"}, "command_wrapper", "{{.Command}}"),
        ({"copy_files": ["/no/such"]}, "copy_files[0]", "a file of this host"),
        ({"copy_files": ["hosts"]}, "copy_files[0]", "by its full path"),
        ({"chroot_mounts": [["proc", "proc"]]}, "chroot_mounts[0][2]", "is required"),
        ({"chroot_mounts": [["proc", "proc", "proc"]]}, "chroot_mounts[0][2]", "from /"),
        ({"device_path": "/dev/nvme1n1"}, "device_path", "match pattern"),
        ({"mount_partition": -1}, "mount_partition", "greater than or equal to 0"),
        ({"root_volume_size": 14902}, "root_volume_size", "less than or equal to 14901"),
        ({"access_key": {"env": "A"}}, "secret_key", "go together"),
        ({"provisioners": [{"type": "reboot"}]}, "provisioners[0]", "a chroot cannot be restarted"),
        ({"source_omi_filter": {}}, "source_omi_filter", "must have filters"),
        ({"source_omi_filter": {"filters": {"nmae": "x"}}}, "source_omi_filter.filters", "is it name?"),
        ({"source_omi_filter": {"filters": {"tpm-mandatory": "maybe"}}}, "source_omi_filter", "true or false"),
        ({"volume_wait_timeout": "soon"}, "volume_wait_timeout", "90s"),
        ({**SCRATCH, "root_volume_type": "io1"}, "root_volume_type", "standard or gp2"),
    ],
)
def test_what_cannot_be_is_an_error_before_anything_is_made(options: dict[str, Any], option: str, rule: str) -> None:
    found = {name: mistake for name, mistake in mistakes(**options).items() if name.startswith(option)}
    assert found, mistakes(**options)
    assert any(rule in mistake.rule for mistake in found.values()), found


def test_from_scratch_says_all_that_it_needs_at_once() -> None:
    assert set(mistakes(from_scratch=True)) == {
        "root_volume_size", "pre_mount_commands", "root_device_name", "omi_block_device_mappings",
    }  # fmt: skip


def test_the_mappings_of_an_omi_from_scratch() -> None:
    root = {"device_name": "/dev/sda1"}
    bad = [
        {"device_name": "/dev/sdb", "volume_type": "io1", "volume_size": 1},
        {"device_name": "/dev/sdb", "iops": 100, "volume_size": 1},
        {"device_name": "/dev/xvdc", "volume_type": "io1", "volume_size": 1, "iops": 301},
        {"device_name": "/dev/xvdd"},
        {"device_name": "/dev/sde", "volume_size": 1, "no_device": True, "virtual_name": "ephemeral0"},
    ]
    found = mistakes(**{**SCRATCH, "omi_block_device_mappings": [root, *bad]})
    assert {option.removeprefix("omi_block_device_mappings") for option in found} == {
        "[1].device_name", "[2].device_name", "[1].iops", "[2].iops", "[3].iops", "[4].volume_size", "[5].no_device",
        "[5].virtual_name",
    }  # fmt: skip
    found = mistakes(**{**SCRATCH, "omi_block_device_mappings": [{"device_name": "/dev/sdb", "volume_size": 1}]})
    assert set(found) == {"root_device_name"}


def test_mistakes_in_options_and_between_them_come_together_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "build.yaml"
    path.write_text(
        f"source_omi: {SOURCE}\nmount_partition: first\ncommand_wrapper: sudo\nomi_groups:\n- admins\n"
        "region: eu-west-2\nomi_regions:\n- eu-west-2\n- us-east-2\n"
    )
    with pytest.raises(DefinitionError) as caught:
        read_one(path, model=OutscaleImageDefinition)
    assert [(m.option, m.line) for m in caught.value.mistakes] == [
        ("mount_partition", 2), ("omi_groups", 4), ("command_wrapper", 3), ("omi_regions[1]", 9),
    ]  # fmt: skip


def test_an_empty_list_of_mounts_or_files_is_none() -> None:
    assert defined(chroot_mounts=[]).mounts() == []
    assert defined().mounts() == list(DEFAULT_MOUNTS)
    assert defined(copy_files=[]).copied_files == []
    assert defined().copied_files == ["/etc/resolv.conf"]
    assert OutscaleImageDefinition.model_validate(SCRATCH).copied_files == []


def test_a_mount_path_takes_the_base_name_of_the_device() -> None:
    definition = defined(mount_path="/mnt/a/{{.Device}}")
    assert definition.mount_point("/dev/nvme1n1") == Path("/mnt/a/nvme1n1")


def test_no_secret_is_in_what_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(DefinitionError) as caught:
        check(OutscaleImageDefinition, {"source_omi": SOURCE, "token": "S3CRET", "mfa_code": "S3CRET"})
    assert "S3CRET" not in str(caught.value) + caplog.text
