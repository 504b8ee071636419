"""A fleet at one moment: its definitions, their current images, and which of them are being built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field

from flows.fleet.family import Family
from tasks.current_image import GoodImage


@dataclass(frozen=True)
class HoldUp:
    """Why a definition is not built now although there is a reason to."""

    by: str
    """An ancestor."""
    blocked: bool
    """Whether that one failed; else it is being built or is going to be, and its new image starts this one again."""


@dataclass(frozen=True)
class Fleet:
    """What the server says of a fleet."""

    families: Mapping[str, Family]
    images: Mapping[str, GoodImage] = field(default_factory=dict)
    """The last good image of each definition that has one."""
    active: Set[str] = frozenset()
    """Definitions with a run that goes on, waits for its turn, or was to have begun by now."""
    building: Set[str] = frozenset()
    """Those of them that may make a new image although no parent has one: a parent's event did not start the run."""
    failed: Set[str] = frozenset()
    """Definitions whose last build ended badly."""

    def parents_now(self, name: str) -> dict[str, str]:
        """The ids of the images that a definition's parents have now; those without one are missing."""
        parents = sorted(self.families[name].parents) if name in self.families else []
        return {parent: self.images[parent].id for parent in parents if parent in self.images}

    def is_behind(self, name: str) -> bool:
        """Whether a parent has another image than the one that this definition's image was made after."""
        family = self.families.get(name)
        if family is None or not family.follows_parents:
            return False
        had = self.images[name].parents if name in self.images else {}
        return any(had.get(parent) != image for parent, image in self.parents_now(name).items())

    def ancestors(self, name: str) -> Iterator[str]:
        """The parents of a definition, theirs, and so on; each once, the nearest first."""
        seen, front = {name}, [name]
        while front:
            front = sorted({p for each in front if each in self.families for p in self.families[each].parents} - seen)
            seen |= set(front)
            yield from front

    def children(self, name: str) -> list[str]:
        """The definitions that are built again because this one has a new image."""
        return sorted(
            child for child, family in self.families.items() if name in family.parents and family.follows_parents
        )

    def descendants(self, name: str) -> list[str]:
        """All definitions that have this one as an ancestor and are built again when it has a new image."""
        found: list[str] = []
        front = {name}
        while front:
            front = {
                child
                for child, family in self.families.items()
                if family.parents & front and family.follows_parents and child not in (*found, name)
            }
            found += sorted(front)
        return found

    def hold_up(self, name: str) -> HoldUp | None:
        """What a definition has to wait for, so that one wave builds it once whichever of its parents is done first.

        Whatever is waited for starts it again: by its new image, or, when it turns out that it need not be built, by
        telling those that are behind. A run that a parent's event started counts only while its definition is behind:
        there are more such runs than builds, and one with nothing to do tells nobody.
        """
        ancestors = list(self.ancestors(name))
        behind = [each for each in ancestors if self.is_behind(each)]
        for each in ancestors:
            if each in self.building:
                return HoldUp(each, blocked=False)
        for each in behind:
            if each in self.failed and each not in self.active:
                return HoldUp(each, blocked=True)
        return HoldUp(behind[0], blocked=False) if behind else None
