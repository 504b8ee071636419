"""The commands by which a person removes what a build left on an Oxide region."""

from __future__ import annotations

from tasks.mark import Mark

_COMMANDS = {
    "instance": "oxide instance stop --instance {id}; oxide instance delete --instance {id}",
    "disk": "oxide disk delete --disk {id}",
    "snapshot": "oxide snapshot delete --snapshot {id}",
    "ssh-key": "oxide current-user ssh-key delete --ssh-key {id}",
    "image": "oxide image delete --image {id}",
}


def by_hand(kind: str, identifier: str, mark: Mark) -> str:
    """How one resource is removed; for an image that is to take another's place, how that is finished."""
    command = _COMMANDS[kind].format(id=identifier)
    if mark.final is None:
        return command
    return (
        f"an image {mark.final} must be there first: make one of the snapshot whose description has the same run and "
        f"try as that of image {identifier}, then delete both: {command}"
    )
