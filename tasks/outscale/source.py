"""Where a build begins: who we are, which VM this is, which OMI is built upon."""

from __future__ import annotations

from blocks.errors import EndedBadly, InvalidRequest, NotOnVm
from blocks.outscale.client import OutscaleClient
from blocks.outscale.metadata import this_vm
from blocks.outscale.models import Account, Image, ImageDevice, Vm
from tasks.mark import provenance
from tasks.outscale.run import OutscaleRun
from tasks.outscale.tokens import ARTIFACT, TAG, values


async def whose_account(client: OutscaleClient) -> Account:
    """See that the credentials are good, and whose they are."""
    accounts = await client.accounts()
    if not accounts:
        raise InvalidRequest("the API names no account for these credentials", resource=client.endpoint)
    return accounts[0]


async def view_vm(client: OutscaleClient) -> Vm:
    """Find out which VM this process runs on.

    Raises:
        NotOnVm: this is no VM of the region, or one of another account.
    """
    here = await this_vm()
    vm = await client.vm(here.vm_id)
    if vm.state != "running":
        raise NotOnVm(f"the VM is {vm.state}", resource=f"VM {vm.vm_id}", hint="Does this host run on that VM?")
    return vm


def root_device(image: Image) -> ImageDevice:
    """An OMI's root device, from whose snapshot the volume is made.

    Raises:
        EndedBadly: the OMI cannot be built upon.
    """
    resource = f"OMI {image.image_name} ({image.image_id})"
    hint = "Choose a source OMI that is available and whose root device is a BSU volume with a snapshot."
    if image.state != "available":
        raise EndedBadly(f"the source OMI is {image.state}", resource=resource, hint=hint)
    if image.root_device_type not in ("bsu", "ebs"):
        raise EndedBadly(
            f"the root device is of type {image.root_device_type or 'unknown'}, not bsu", resource=resource, hint=hint
        )
    for device in image.block_device_mappings:
        if device.device_name == image.root_device_name and device.bsu is not None and device.bsu.snapshot_id:
            return device
    raise EndedBadly(f"no snapshot is mapped to {image.root_device_name}", resource=resource, hint=hint)


def is_finished_by(run: OutscaleRun, image: Image) -> bool:
    """Whether an earlier attempt of this run finished an OMI; perhaps all but its description."""
    return values(image.tags).get(TAG) == ARTIFACT and (
        image.description.endswith(provenance(run.id)) or run.owns_description(image.description)
    )
