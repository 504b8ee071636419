"""What is said of a build's leavings when nobody can look for them: the credentials are gone, or have expired."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from blocks.errors import BakeryError, LeftBehind
from tasks import begun
from tasks.begun import Begun
from tasks.mark import Lineage, Mark
from tasks.masking import mask_error
from tasks.outscale.tokens import tokens
from tasks.run import Logger
from tasks.teardown import Ground, Owned, Removal, tear_down


async def tear_down_run(
    ground: Ground,
    lineage: Lineage,
    belongs: Callable[[Mark], bool],
    *,
    logger: Logger,
    known: Sequence[Owned] = (),
    settle: float = 0,
) -> Removal:
    """Tear down what a run made, beginning with what is `known`.

    Raises:
        LeftBehind: something is left, or may be: what, and how a person removes it.
    """
    try:
        removal = await tear_down(ground, belongs, logger=logger, known=known, settle=settle)
    except BakeryError as error:
        raise unseen(lineage, error) from error
    removal.raise_for_left()
    return removal


def unseen(lineage: Lineage, why: BakeryError, place: Mapping[str, Any] | None = None) -> LeftBehind:
    """The error for a build whose leavings cannot be looked for.

    Args:
        lineage: The build.
        why: Why nobody can look.
        place: Where it built, for when this host does not know what it made: `cloud`, and on Oxide the `project`.
    """
    mask_error(why)
    known = begun.of(lineage)
    said = listing(known)
    if not said:
        place = known[0].place if known else place
        said = [f"This host does not know what it made. {how_to_look(place, lineage)}"] if place else []
    return LeftBehind(
        "what this build left could not be looked for",
        resource=f"flow run {lineage.run}",
        why=str(why).replace("\n  → ", "; "),
        hint="\n".join(
            ["Mend that, and reclaim removes what is left: python -m flows.reclaim BUILD.yaml. Or by hand:", *said]
        ),
    )


def listing(known: Sequence[Begun]) -> list[str]:
    """What builds made, as far as this host knows, and how it is removed by hand. Some of it may be gone."""
    return [f"    {made.resource}: {made.remove_by_hand}" for each in known for made in reversed(each.made)]


def how_to_look(place: Mapping[str, Any], lineage: Lineage) -> str:
    """How a person finds what carries a run's mark."""
    begins = f"whose description begins with 'image-bakery run={lineage.run}'"
    if place["cloud"] == "oxide":
        project = place["project"]
        lists = ", ".join(
            f"oxide {kind} list --project {project}" for kind in ("instance", "disk", "snapshot", "image")
        )
        return f"Remove all {begins} in: {lists}, oxide current-user ssh-key list"
    filters = json.dumps({"ClientTokens": tokens(lineage)})
    return (
        f"Delete what these show: osc-cli api ReadVolumes --Filters '{filters}', osc-cli api ReadSnapshots --Filters "
        f"'{filters}'; and OMIs {begins}"
    )
