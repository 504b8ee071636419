from __future__ import annotations

import pytest

from emulators.region.faults import Fault, Faults


def strikes(fault: Fault, times: int) -> str:
    faults = Faults()
    faults.add(fault)
    return "".join("x" if faults.draw("create") else "." for _ in range(times))


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(kind="status"), "x....."),
        (Fault(kind="status", count=2, skip=1), ".xx..."),
        (Fault(kind="status", count=None), "xxxxxx"),
        (Fault(kind="status", operation="cre*", count=3), "xxx..."),
        (Fault(kind="status", operation="delete"), "......"),
        (Fault(kind="status", probability=0, count=None), "......"),
    ],
)
def test_a_fault_strikes_as_it_was_told(fault: Fault, expected: str) -> None:
    assert strikes(fault, 6) == expected


def test_the_same_seed_strikes_the_same_requests() -> None:
    fault = Fault(kind="status", probability=0.5, seed=7, count=None)
    first = strikes(fault, 40)
    assert first == strikes(Fault.model_validate(fault.model_dump()), 40)
    assert 0 < first.count("x") < 40


def test_a_kind_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        Faults().add(Fault(kind="capacity"))
    Faults(frozenset({"capacity"})).add(Fault(kind="capacity"))
