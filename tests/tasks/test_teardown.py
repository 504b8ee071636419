from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from operator import eq

import pytest
from pydantic import SecretStr

from blocks.errors import BakeryError, Forbidden, LeftBehind, ServiceFault
from tasks import masking
from tasks.masking import keep_secret
from tasks.teardown import Removal, find, tear_down
from tests.conftest import Tune
from tests.tasks.support import LOG, MemoryGround, mark_of, owned

OURS = mark_of()
INSTANCE, DISK = owned(OURS, "instance", 0), owned(OURS, "disk", 1)
SNAPSHOT, KEY, IMAGE = owned(OURS, "snapshot", 1), owned(OURS, "ssh-key", 1), owned(OURS, "image", 2)
ALL = [IMAGE, KEY, DISK, SNAPSHOT, INSTANCE]
ALWAYS: list[Exception] = [BakeryError("worn out")] * 1000


async def removed_from(ground: MemoryGround, *, settle: float = 0, timeout: float | None = None) -> Removal:
    return await asyncio.wait_for(
        tear_down(ground, lambda mark: mark.run == OURS.run, logger=LOG, settle=settle, timeout=timeout), 15
    )


async def test_all_goes_in_the_order_of_dependence(tune: Tune) -> None:
    ground = MemoryGround(list(ALL))
    removal = await removed_from(ground)
    assert ground.there == []
    assert ground.tried == ["instance", "disk", "snapshot", "ssh-key", "image"] or [
        name.rsplit("-", 1)[0] for name in ground.tried
    ] == ["instance", "disk", "snapshot", "ssh-key", "image"]
    assert (sorted(map(str, removal.removed)), removal.left) == (sorted(map(str, ALL)), {})
    removal.raise_for_left()


async def test_what_is_known_goes_before_the_first_look(tune: Tune) -> None:
    ground = MemoryGround(list(ALL))
    gone = owned(OURS, "disk", 1, name="gone")
    belongs = partial(eq, OURS)
    removal = await asyncio.wait_for(tear_down(ground, belongs, logger=LOG, known=[INSTANCE, KEY, gone]), 15)
    assert ground.tried[:3] == [INSTANCE.name, KEY.name, gone.name]
    assert (ground.there, removal.left) == ([], {})
    assert ground.looks == 2, "one that found the rest, and one that found nothing"


async def test_looking_changes_nothing() -> None:
    ground = MemoryGround(list(ALL))
    assert (await find(ground, lambda mark: mark == OURS))[0] == INSTANCE
    assert (ground.there, ground.tried) == (ALL, [])


async def test_what_belongs_to_others_stays(tune: Tune) -> None:
    foreign = [owned(mark_of()), owned(mark_of(), "instance", 0), owned(replace(OURS, attempt=2), name="later")]
    ground = MemoryGround([*foreign, KEY])
    await asyncio.wait_for(tear_down(ground, lambda mark: mark.run == OURS.run and mark.attempt <= 1, logger=LOG), 10)
    assert ground.there == foreign
    assert ground.tried == [KEY.name]


async def test_one_that_fails_does_not_keep_the_others(tune: Tune) -> None:
    ground = MemoryGround(list(ALL), refuses={SNAPSHOT.name: ALWAYS, KEY.name: [RuntimeError(), OSError("x")]})
    removal = await removed_from(ground, timeout=1.5)
    assert ground.there == [SNAPSHOT]
    assert removal.left == {SNAPSHOT: "worn out"}


async def test_it_is_repeated_until_a_fresh_look_finds_nothing(tune: Tune) -> None:
    ground = MemoryGround(list(ALL), refuses={DISK.name: [ServiceFault("busy")] * 2})
    removal = await removed_from(ground)
    assert (ground.there, removal.left, ground.tried.count(DISK.name)) == ([], {}, 3)


async def test_a_look_that_fails_is_repeated(tune: Tune) -> None:
    ground = MemoryGround(list(ALL), blind=[ServiceFault("down"), ServiceFault("down")])
    await removed_from(ground)
    assert ground.there == []


async def test_a_look_that_will_never_work_is_an_error(tune: Tune) -> None:
    with pytest.raises(Forbidden):
        await removed_from(MemoryGround(list(ALL), blind=[Forbidden("no")]))
    with pytest.raises(ServiceFault):
        await removed_from(MemoryGround(list(ALL), blind=[ServiceFault("down")] * 99), timeout=0.3)


async def test_it_looks_on_for_what_a_lost_create_may_still_make(tune: Tune) -> None:
    ground = MemoryGround()
    cleaning = asyncio.create_task(removed_from(ground, settle=1))
    await ground.looked.wait()
    ground.there.append(INSTANCE)
    removal = await cleaning
    assert (ground.there, removal.removed) == ([], [INSTANCE])


async def test_without_such_a_create_one_look_that_finds_nothing_is_enough(tune: Tune) -> None:
    ground = MemoryGround()
    assert await removed_from(ground) == Removal()
    assert ground.looks == 1


async def test_several_at_once_do_no_harm(tune: Tune) -> None:
    ground = MemoryGround(list(ALL))
    removals = await asyncio.gather(*(removed_from(ground) for _ in range(3)))
    assert ground.there == []
    assert [removal.left for removal in removals] == [{}, {}, {}]


async def test_what_stays_although_its_removal_worked_is_told(tune: Tune) -> None:
    ground = MemoryGround([KEY, DISK], sticky={KEY.name})
    removal = await removed_from(ground, timeout=1)
    assert list(removal.left) == [KEY]
    assert ground.looks < 20
    assert removal.removed.count(KEY) == 1


async def test_what_takes_its_time_to_go_is_waited_for(tune: Tune) -> None:
    ground = MemoryGround([KEY], sticky={KEY.name})

    async def go_late() -> None:
        await ground.looked.wait()
        while ground.looks < 3:
            await asyncio.sleep(0)
        ground.sticky.clear()

    async with asyncio.TaskGroup() as group:
        group.create_task(go_late())
        removal = group.create_task(removed_from(ground))
    assert removal.result().left == {}


async def test_the_report_says_how_to_remove_by_hand_what_is_left(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_texts", set())
    keep_secret(SecretStr("oxide-token-1"))
    ground = MemoryGround(list(ALL), refuses={KEY.name: [BakeryError("no: oxide-token-1")], DISK.name: ALWAYS})
    removal = await removed_from(ground, timeout=0)
    with pytest.raises(LeftBehind) as caught:
        removal.raise_for_left()
    text = str(caught.value)
    assert "2 temporary resources" in text
    assert f"{DISK}: worn out" in text
    assert f"cloud delete {DISK.name}\n" in text
    assert f"cloud delete {KEY.name}" in text
    assert "oxide-token-1" not in text


async def test_it_can_be_cancelled(tune: Tune) -> None:
    ground = MemoryGround([KEY], refuses={KEY.name: ALWAYS})
    cleaning = asyncio.create_task(removed_from(ground))
    await ground.looked.wait()
    cleaning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(cleaning, 5)
