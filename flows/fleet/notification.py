"""Who is told when a build failed: an automation with one of Prefect's own notification blocks."""

from __future__ import annotations

from prefect.client.orchestration import PrefectClient
from prefect.events import AutomationCore, EventTrigger
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound

from blocks.errors import BakeryError
from flows.fleet.events import BLOCKED, FAILED, resource_id

_SUBJECT = "{{ event.payload.definition }}: {{ event.event }}"
_BODY = """{% if event.payload.by %}Not built: {{ event.payload.by }} failed.{% else %}\
{% if event.payload.step %}In step {{ event.payload.step }}: {% endif %}{{ event.payload.what }}
{% if event.payload.hint %}→ {{ event.payload.hint }}{% endif %}{% endif %}
Flow run {{ event.payload.run }}"""


async def notify(client: PrefectClient, block: str) -> str:
    """Have a notification block told of every build that fails, crashes, or is not made because a parent failed.

    It can be repeated: there is one such automation a block.

    Args:
        client: Of the Prefect server.
        block: The block as TYPE/NAME, such as slack-webhook/team.

    Returns:
        The automation's name.

    Raises:
        BakeryError: there is no such block.
    """
    kind, _, name = block.partition("/")
    try:
        document = await client.read_block_document_by_name(name, kind, include_secrets=False)
    except ObjectNotFound:
        raise BakeryError(
            "there is no such notification block on this Prefect server",
            resource=block,
            hint="Make it in the UI (Blocks), and name it as TYPE/NAME, such as slack-webhook/team.",
        ) from None
    automation = AutomationCore(
        name=f"Image Bakery: failed builds to {block}",
        description="Made by make deploy NOTIFY=…",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={FAILED, BLOCKED},
            match=ResourceSpecification({"prefect.resource.id": resource_id("*")}),
            for_each={"prefect.resource.id"},
        ),
        actions=[SendNotification(block_document_id=document.id, subject=_SUBJECT, body=_BODY)],
    )
    there = await client.read_automations_by_name(automation.name)
    for former in there:
        await client.delete_automation(former.id)
    await client.create_automation(automation)
    return automation.name
