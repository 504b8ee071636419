"""Where a build begins: who we are, which VM this is, which OMI is built upon."""

from __future__ import annotations

from blocks.errors import AlreadyExists, EndedBadly, InvalidRequest, NotOnVm
from blocks.outscale.metadata import this_vm
from blocks.outscale.models import Account, Image, ImageDevice, ImageFilters, Vm
from tasks.mark import provenance
from tasks.outscale.run import OutscaleRun
from tasks.outscale.tokens import ARTIFACT, TAG, values
from tasks.step import step


@step("check credentials")
async def check_credentials(run: OutscaleRun) -> Account:
    """See that the credentials are good, and whose they are."""
    accounts = await run.client.accounts()
    if not accounts:
        raise InvalidRequest("the API names no account for these credentials", resource=run.client.endpoint)
    return accounts[0]


@step("VM info")
async def vm_info(run: OutscaleRun) -> Vm:
    """Find out which VM this process runs on.

    Raises:
        NotOnVm: this is no VM of the region, or one of another account.
    """
    here = await this_vm()
    vm = await run.client.vm(here.vm_id)
    if vm.state != "running":
        raise NotOnVm(f"the VM is {vm.state}", resource=f"VM {vm.vm_id}", hint="Does this host run on that VM?")
    run.logger.info("Building on VM %s in %s", vm.vm_id, vm.placement.subregion_name)
    return vm


@step("source OMI info")
async def source_omi_info(run: OutscaleRun, source_omi: str) -> Image:
    """Find the source OMI."""
    image = await run.client.image(source_omi)
    run.logger.info("Source OMI: %s (%s)", image.image_name, image.image_id)
    return image


@step("check root device")
async def check_root_device(_run: OutscaleRun, image: Image) -> ImageDevice:
    """The source OMI's root device, from whose snapshot the volume is made.

    Raises:
        EndedBadly: the OMI cannot be built upon.
    """
    resource = f"OMI {image.image_name} ({image.image_id})"
    hint = "Choose a source OMI that is available and whose root device is a BSU volume with a snapshot."
    if image.state != "available":
        raise EndedBadly(f"the source OMI is {image.state}", resource=resource, hint=hint)
    if image.root_device_type != "bsu":
        raise EndedBadly(
            f"the root device is of type {image.root_device_type or 'unknown'}, not bsu", resource=resource, hint=hint
        )
    for device in image.block_device_mappings:
        if device.device_name == image.root_device_name and device.bsu is not None and device.bsu.snapshot_id:
            return device
    raise EndedBadly(f"no snapshot is mapped to {image.root_device_name}", resource=resource, hint=hint)


@step("check name")
async def check_name(run: OutscaleRun, account: Account, name: str) -> Image | None:
    """See that the OMI's name is free in the account, before anything is created.

    Returns:
        This run's own OMI, when an earlier attempt finished it.

    Raises:
        AlreadyExists: another OMI has the name.
    """
    async for image in run.client.images(ImageFilters(account_ids=[account.account_id], image_names=[name])):
        if image.image_name != name:
            continue  # the filter takes `*` and `?` for patterns
        if values(image.tags).get(TAG) == ARTIFACT and image.description.endswith(provenance(run.id)):
            run.logger.info("An earlier attempt of this run finished the OMI %s (%s)", name, image.image_id)
            return image
        if run.owns_description(image.description):
            continue  # half-made by an earlier try: teardown removes it
        raise AlreadyExists(
            "the OMI's name is taken",
            resource=f"OMI {name}",
            why=f"{image.image_id} has it",
            hint="Choose another omi_name (variables such as {{timestamp}} make it unique), or delete that OMI.",
        )
    return None
