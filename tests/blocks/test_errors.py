from __future__ import annotations

import inspect

import pytest

from blocks import errors
from blocks.errors import ApiError, BakeryError, DefinitionError, Mistake, NotFound


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (BakeryError("it broke"), "it broke"),
        (BakeryError("it broke", resource="disk d", why="worn out"), "disk d: it broke: worn out"),
        (BakeryError("it broke", hint="buy another"), "it broke\n  → buy another"),
        (ApiError("refused"), "refused"),
        (
            NotFound(
                "refused",
                resource="disk d",
                why="no such disk",
                hint="look",
                status=404,
                code="ObjectNotFound",
                request_id="r-1",
            ),
            "disk d: refused: no such disk (HTTP 404, ObjectNotFound, request r-1)\n  → look",
        ),
        (ApiError("refused", status=503), "refused (HTTP 503)"),
    ],
)
def test_the_text_says_what_on_which_resource_why_and_what_to_do(error: BakeryError, text: str) -> None:
    assert str(error) == text


def test_a_definition_error_lists_every_mistake() -> None:
    error = DefinitionError(
        [Mistake("cpus", "must be positive", "0", 3), Mistake("token", "must be a reference")], source="b.yaml"
    )
    text = str(error)
    assert "b.yaml: the build definition has 2 mistakes" in text
    assert "\n  - cpus (line 3): must be positive — given: 0\n  - token: must be a reference\n" in text
    assert "Nothing was created" in text


def test_one_mistake_is_a_mistake() -> None:
    assert "has a mistake:" in str(DefinitionError([Mistake("cpus", "must be positive")]))


def test_faults_that_pass_are_those_of_the_way_and_of_the_cloud() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.CloudError)]
    assert {kind.__name__ for kind in kinds if kind.passes} == {"Unreachable", "ReplyLost", "Throttled", "ServiceFault"}


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        bare = line.lstrip(" │├└─")
        name = bare.split(" ")[0]
        if not isinstance(getattr(errors, name, None), type) or (":" in line and not above):
            continue
        depth = len(line) - len(bare)
        above = [(other, parent) for other, parent in above if other < depth]
        drawn[name] = above[-1][1] if above else "Exception"
        above.append((depth, name))
    real = {
        name: kind.__bases__[0].__name__
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, BakeryError)
    }
    assert drawn == real
