"""The commands by which a person removes what a build left in an OUTSCALE account."""

from __future__ import annotations

from tasks.mark import Mark

_OPTIONS = {"image": "ImageId", "snapshot": "SnapshotId", "volume": "VolumeId"}
KINDS = {"ami": "image", "snap": "snapshot", "vol": "volume"}
"""What an id is of, by its beginning."""


def by_hand(kind: str, identifier: str, mark: Mark) -> str:
    """How one resource is removed; for an OMI that is to take another's place, how that is finished."""
    option = _OPTIONS[kind]
    command = f"osc-cli api Delete{option.removesuffix('Id')} --{option} {identifier}"
    if mark.final is None:
        return command
    return (
        f"look whether there is an OMI {mark.final!r}: if not, register it from the snapshots of {identifier}; "
        f"then {command}"
    )
