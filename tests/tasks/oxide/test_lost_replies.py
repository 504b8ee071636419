"""A create whose reply is lost is found again by its owned name, and made once."""

from __future__ import annotations

import pytest

from blocks.errors import NotOurs
from tasks.oxide.instances import create_temporary_key
from tasks.ssh.temporary_key import public_line, temporary_key
from tests.conftest import RegionInABox
from tests.tasks.oxide.support import a_run


async def test_the_key_is_made_once_although_its_reply_was_lost(region: RegionInABox) -> None:
    run = a_run(region)
    async with run.client:
        line = public_line(temporary_key(run.token, run.id))
        await region.fault(operation="current_user_ssh_key_create", kind="drop_after")
        key = await create_temporary_key.fn(run, run.owned_name("key"), line)
        assert await region.names() == [f"ssh_keys/{run.owned_name('key')}"]
        assert key.description == str(run.mark)
        assert run.pending == set()


async def test_another_runs_key_of_that_name_is_left_alone(region: RegionInABox) -> None:
    run, other = a_run(region), a_run(region)
    async with run.client, other.client:
        line = public_line(temporary_key(run.token, run.id))
        await create_temporary_key.fn(other, "taken", line)
        with pytest.raises(NotOurs, match="did not make"):
            await create_temporary_key.fn(run, "taken", line)
        assert await region.names() == ["ssh_keys/taken"]
        assert run.pending == set()
