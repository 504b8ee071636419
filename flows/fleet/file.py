"""One definition file: what is built, with its family, its deployment and its variants."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from blocks.errors import DefinitionError, Mistake
from flows.check import check, mistakes_of
from flows.definition import BUILD_NAME, BUILD_NAME_LENGTH, BuildDefinition
from flows.fleet.deployment import DeploymentOptions
from flows.fleet.family import Family
from flows.fleet.matrix import Chosen, combinations, filled, mistakes_of_matrix, suffix, used
from flows.yaml_file import changed, load_yaml, option_root, with_line

ModelT = TypeVar("ModelT", bound=BaseModel)

FLEET_OPTIONS = frozenset((*Family.model_fields, "matrix", "deployment", "builder"))
"""The options of a file that are not the builder's."""


@dataclass(frozen=True)
class FleetDefinition:
    """A definition of the fleet; of a file with a matrix, one of its variants."""

    name: str
    """The file's name without its ending, and what tells the variant."""
    file: Path
    build: BuildDefinition[Any]
    """What is built. Without a source where `family` names one."""
    family: Family
    deployment: DeploymentOptions


def read_file(
    path: Path,
    *,
    model: type[BuildDefinition[Any]] | None = None,
    changes: Sequence[str] = (),
    builds_here: bool = True,
) -> list[FleetDefinition]:
    """Read a definition file: one definition, or a matrix's variants.

    Args:
        path: The file.
        model: Which builder's definition. Default: what `builder` says, else the one that has most of its options.
        changes: Options that take the place of the file's, each as `OPTION=VALUE` with the value in YAML.
        builds_here: As for `flows.definition.check`.

    Raises:
        DefinitionError: it is no YAML, or holds mistakes: each with its line.
    """
    node, data = load_yaml(path)
    new = changed(changes)
    data |= new
    file = _File(path, node, data, model or _model_of(data), frozenset(new), builds_here)
    mistakes = [with_line(mistake, node) for mistake in file.mistakes_of_file()]
    definitions = []
    is_matrix = "matrix" in data and not any(mistakes_of_matrix(data["matrix"]))
    for chosen in combinations(data["matrix"] if is_matrix else {}):
        try:
            definitions.append(file.variant(chosen))
        except DefinitionError as error:
            mistakes += error.mistakes
    if mistakes:
        # Variants share most of their mistakes.
        raise DefinitionError(list(dict.fromkeys(mistakes)), source=str(path))
    return definitions


def read_one(
    path: Path, *, model: type[BuildDefinition[Any]] | None = None, changes: Sequence[str] = (), variant: str = ""
) -> FleetDefinition:
    """Read a definition file, and choose one of its variants, by name, where it has a matrix.

    Raises:
        DefinitionError: as for `read_file`; there is no such variant, or none is named.
    """
    definitions = read_file(path, model=model, changes=changes)
    chosen = [definition for definition in definitions if not variant or definition.name == variant]
    if len(chosen) != 1:
        names = ", ".join(definition.name for definition in definitions)
        raise DefinitionError([Mistake("variant", f"must be one of {names}", variant)], source=str(path))
    return chosen[0]


@dataclass(frozen=True)
class _File:
    path: Path
    node: yaml.Node | None
    data: Mapping[str, Any]
    model: type[BuildDefinition[Any]]
    changed: Set[str]
    """Options that take the place of the file's and of the matrix's."""
    builds_here: bool

    def mistakes_of_file(self) -> Iterator[Mistake]:
        """What is wrong whichever the variant."""
        builder = self.data.get("builder", self.model.builder)
        if builder != self.model.builder:
            yield Mistake("builder", f"must be {self.model.builder} here", str(builder))
        matrix = self.data.get("matrix")
        if "matrix" in self.data:
            yield from mistakes_of_matrix(matrix)
        keys = set(matrix) if isinstance(matrix, dict) else set()
        texts = dict(used({key: value for key, value in self.data.items() if key != "matrix"}))
        for key in sorted(keys - texts.keys() - self.model.model_fields.keys(), key=str):
            yield Mistake(f"matrix.{key}", f"is no option of {self.model.builder}, and {{{{matrix.{key}}}}} is nowhere")
        for key in sorted(texts.keys() - keys):
            yield Mistake(texts[key], f"names {{{{matrix.{key}}}}}, and the matrix has no such key")

    def variant(self, chosen: Chosen) -> FleetDefinition:
        """The definition with one choice of the matrix's values.

        Raises:
            DefinitionError: all of its mistakes.
        """
        data = {key: filled(value, chosen) for key, value in self.data.items() if key != "matrix"}
        name = "-".join(part for part in (self.path.stem, suffix(list(chosen.values()))) if part)
        mistakes: list[Mistake] = []
        family = self._part(Family, {key: data[key] for key in Family.model_fields if key in data}, (), mistakes)
        deployment = self._part(DeploymentOptions, data.get("deployment") or {}, ("deployment",), mistakes)
        if family is not None:
            mistakes += [with_line(mistake, self.node) for mistake in self._mistakes_of_family(family, data)]
        options = {key: value for key, value in data.items() if key not in FLEET_OPTIONS}
        options |= {
            key: value for key, value in chosen.items() if key in self.model.model_fields and key not in self.changed
        }
        try:
            build = check(
                self.model,
                {
                    **options,
                    **self._build_name(name, chosen),
                    "definition_file": str(self.path.resolve()),
                },
                source=str(self.path),
                node=self.node,
                has_parent=bool(data.get("source")),
                builds_here=self.builds_here,
            )
        except DefinitionError as error:
            mistakes += [self._of_matrix(mistake, chosen) for mistake in error.mistakes]
        if mistakes or family is None or deployment is None:
            raise DefinitionError(mistakes, source=str(self.path))
        return FleetDefinition(name, self.path, build, family, deployment)

    def _part(self, model: type[ModelT], given: Any, below: tuple[str, ...], mistakes: list[Mistake]) -> ModelT | None:
        try:
            return model.model_validate(given)
        except ValidationError as error:
            mistakes += mistakes_of(error, model, given, self.node, below=below)
            return None

    def _mistakes_of_family(self, family: Family, data: Mapping[str, Any]) -> Iterator[Mistake]:
        if family.source is not None:
            for option in self.model.source_options:
                if data.get(option):
                    yield Mistake(option, "and source are both given: one is enough")
        if "age" in family.rebuild and family.max_age is None:
            yield Mistake("max_age", "is required with rebuild: [age]")
        if "age" not in family.rebuild and family.max_age is not None:
            yield Mistake("max_age", "has no effect without rebuild: [age]")

    def _build_name(self, name: str, chosen: Chosen) -> dict[str, str]:
        """The definition's own name where it gives none, and one of its own for each variant."""
        given = self.data.get("build_name")
        if given is None:
            fits = re.fullmatch(BUILD_NAME, name) and len(name) <= BUILD_NAME_LENGTH
            return {"build_name": name} if fits else {}
        if not chosen or "build_name" in chosen or any(used(given)):
            return {}
        return {"build_name": f"{given}-{suffix(list(chosen.values()))}"}

    def _of_matrix(self, mistake: Mistake, chosen: Chosen) -> Mistake:
        """A mistake in an option that the matrix sets stands on the matrix's line."""
        if option_root(mistake.option) not in chosen:
            return mistake
        place = with_line(Mistake(f"matrix.{option_root(mistake.option)}", ""), self.node)
        return replace(mistake, line=place.line)


def _model_of(data: Mapping[str, Any]) -> type[BuildDefinition[Any]]:
    from flows.kinds import BUILDERS

    named = BUILDERS.get(str(data.get("builder")))
    return named or max(BUILDERS.values(), key=lambda each: len(data.keys() & each.model_fields.keys()))
