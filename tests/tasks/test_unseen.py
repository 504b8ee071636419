"""What is said of a build's leavings when nobody can look for them."""

from __future__ import annotations

import pytest

from blocks.errors import BakeryError, CredentialsError, LeftBehind, Unauthorized
from tasks import begun
from tasks.mark import Lineage
from tasks.unseen import tear_down_run, unseen
from tests.conftest import Tune
from tests.tasks.support import LOG, MemoryGround, mark_of

MARK = mark_of()
LINEAGE = Lineage(MARK.run, 2)
WHY = CredentialsError("there are no credentials", hint="Set OXIDE_TOKEN.")


def text(error: BakeryError, *parts: str) -> str:
    said = str(error)
    for part in parts:
        assert part in said, said
    return said


def test_what_was_made_on_this_host_is_told_by_id(tune: Tune) -> None:
    begun.begin(MARK, {"cloud": "oxide", "host": "h", "project": "p", "token": "oxide-token-1"})
    begun.made(MARK, "instance a (id-1)", "oxide instance delete --instance id-1")
    begun.made(MARK, "snapshot a (id-2)", "oxide snapshot delete --snapshot id-2")
    begun.made(mark_of(), "instance b (id-3)", "never begun: nothing is written")
    said = text(
        unseen(LINEAGE, WHY),
        f"flow run {MARK.run}: what this build left could not be looked for: ",
        "there are no credentials; Set OXIDE_TOKEN.",
        "python -m flows.reclaim BUILD.yaml",
        "snapshot a (id-2): oxide snapshot delete --snapshot id-2\n    instance a (id-1): oxide instance delete",
    )
    assert "id-3" not in said
    assert "oxide-token-1" not in said
    assert "oxide-token-1" not in begun.of(LINEAGE)[0].file.read_text()


def test_a_line_that_was_cut_does_not_hide_the_others(tune: Tune) -> None:
    begun.begin(MARK, {"cloud": "oxide", "host": "h", "project": "p"})
    begun.made(MARK, "instance a (id-1)", "x")
    with begun.of(LINEAGE)[0].file.open("a") as file:
        file.write('{"resource": "insta')
    assert [made.resource for made in begun.of(LINEAGE)[0].made] == ["instance a (id-1)"]


def test_elsewhere_it_is_told_how_to_find_it(tune: Tune) -> None:
    text(
        unseen(LINEAGE, WHY, {"cloud": "oxide", "project": "images"}),
        f"begins with 'image-bakery run={MARK.run}'",
        "oxide instance list --project images",
        "oxide current-user ssh-key list",
    )
    text(
        unseen(LINEAGE, WHY, {"cloud": "outscale"}),
        f'osc-cli api ReadVolumes --Filters \'{{"ClientTokens": ["bakery-{MARK.run.hex}-1-volume"',
        f"bakery-{MARK.run.hex}-2-snapshot",
    )


async def test_a_teardown_whose_credentials_have_expired_says_what_is_left(tune: Tune) -> None:
    begun.begin(MARK, {"cloud": "oxide", "host": "h", "project": "p"})
    begun.made(MARK, "instance a (id-1)", "oxide instance delete --instance id-1")
    ground = MemoryGround(blind=[Unauthorized("the token has expired")])
    with pytest.raises(LeftBehind) as caught:
        await tear_down_run(ground, LINEAGE, LINEAGE.owns, logger=LOG, settle=0)
    text(caught.value, "the token has expired", "oxide instance delete --instance id-1")
