"""The VMs that this machine plays, as a client sees them."""

from __future__ import annotations

from collections.abc import Iterable

from emulators.outscale import wire
from emulators.outscale.accounts import Account
from emulators.outscale.images import ROOT_DEVICE
from emulators.outscale.records import Link, Vm, Volume
from emulators.outscale.region import OutscaleRegion


def views(region: OutscaleRegion, account: Account) -> list[wire.Json]:
    """Every VM of an account, as `Vm`."""
    volumes = [volume for volume in region.volumes.within(account.account_id) if volume.link is not None]
    return [_view(region, vm, volumes) for vm in region.vms.within(account.account_id)]


def _view(region: OutscaleRegion, vm: Vm, volumes: Iterable[Volume]) -> wire.Json:
    # Its root volume has no file: it is this machine's own disk.
    root = {
        "DeviceName": ROOT_DEVICE,
        "Bsu": {
            "VolumeId": f"vol-{vm.id.removeprefix('i-')}",
            "State": "attached",
            "LinkDate": wire.date(vm.creation_date),
            "DeleteOnVmDeletion": True,
        },
    }
    linked = [_mapping(v, v.link) for v in volumes if v.link and v.link.vm_id == vm.id]
    return {
        "VmId": vm.id,
        "State": "running",
        "VmType": "tinav5.c2r4p2",
        "ActionsOnNextBoot": {"SecureBoot": "none"},
        "Architecture": "x86_64",
        "BlockDeviceMappings": [root, *linked],
        "BootMode": "legacy",
        "BsuOptimized": False,
        "CreationDate": wire.date(vm.creation_date),
        "DeletionProtection": False,
        "Hypervisor": "xen",
        "ImageId": "ami-00000000",
        "LaunchNumber": 0,
        "NestedVirtualization": False,
        "Performance": "high",
        "Placement": {"SubregionName": vm.subregion, "Tenancy": "default"},
        "PrivateDnsName": f"{vm.id}.{region.place.region}.compute.internal",
        "PrivateIp": "127.0.0.1",
        "ProductCodes": ["0001"],
        "ReservationId": f"r-{vm.id.removeprefix('i-')}",
        "RootDeviceName": ROOT_DEVICE,
        "RootDeviceType": "bsu",
        "SecurityGroups": [],
        "StateReason": "",
        "Tags": wire.tags(vm.tags),
        "TpmEnabled": False,
        "UserData": "",
        "VmInitiatedShutdownBehavior": "stop",
    }


def _mapping(volume: Volume, link: Link) -> wire.Json:
    return {
        "DeviceName": link.device,
        "Bsu": {
            "VolumeId": volume.id,
            "State": link.state,
            "LinkDate": wire.date(link.date),
            "DeleteOnVmDeletion": link.delete_on_vm_deletion,
        },
    }
