from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.oxide.models import DESCRIPTION_LENGTH
from tasks.mark import HostProcess, Mark, provenance, run_tail

NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
TIMES = st.datetimes(
    datetime(2000, 1, 1), datetime(9999, 12, 31), timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7))])
).map(lambda moment: moment.replace(microsecond=0))
HOSTS = st.builds(
    HostProcess,
    boot_id=st.uuids().map(str),
    pid_namespace=st.integers(0, 2**64 - 1),
    pid=st.integers(1, 2**22),
    start=st.integers(0, 2**64 - 1),
)
MARKS = st.builds(
    Mark,
    run=st.uuids(),
    attempt=st.integers(1, 10**6),
    server=st.from_regex(r"[A-Za-z0-9-]{1,64}", fullmatch=True),
    host=HOSTS,
    until=TIMES,
    keep=st.none() | TIMES,
    final=st.none() | NAMES,
)
ONE = Mark(
    run=UUID("01936f5e-1f00-7000-8000-0000deadbeef"),
    attempt=2,
    server="0123456789abcdef",
    host=HostProcess("0f0e0d0c-0b0a-4908-8706-050403020100", 4026531836, 4242, 123456),
    until=datetime(2026, 11, 21, 12, 0, tzinfo=UTC),
)


@given(MARKS)
def test_what_is_written_is_read(mark: Mark) -> None:
    assert Mark.parse(str(mark)) == mark


@given(MARKS, st.text(min_size=1, max_size=20), st.booleans())
def test_a_text_with_anything_before_or_after_a_mark_is_none(mark: Mark, more: str, before: bool) -> None:
    # What stands after a final name could be more of that name: then it is another mark, of the same owner.
    bare = str(replace(mark, final=None))
    assert Mark.parse(f"{more}{bare}" if before else f"{bare}{more}") is None
    quoted = f"{more}{mark}" if before else f"{mark}{more}"
    found = Mark.parse(quoted)
    assert found is None or (not before and found.final == f"{mark.final}{more}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "image-bakery",
        f"see {ONE}",
        f"{ONE} ",
        f"{ONE}\n",
        f"'{ONE}'",
        f"{ONE} {ONE}",
        str(ONE).upper(),
        str(ONE).replace(" ", "  ", 1),
        str(ONE).replace("try=2", "try=0"),
        str(ONE).replace("try=2", "try=٢"),
        str(ONE).replace("2026-11-21", "2026-13-41"),
        str(ONE).replace("server=0123456789abcdef ", ""),
        f"{ONE} final=",
        f"{ONE} keep=soon",
        provenance(ONE.run),
        f"my image {provenance(ONE.run)}",
    ],
)
def test_look_alikes_are_no_marks(text: str) -> None:
    assert Mark.parse(text) is None


def test_the_format_is_a_contract() -> None:
    assert str(replace(ONE, keep=ONE.until, final="debian-12")) == (
        "image-bakery run=01936f5e-1f00-7000-8000-0000deadbeef try=2 server=0123456789abcdef "
        "host=0f0e0d0c-0b0a-4908-8706-050403020100/4026531836:4242:123456 until=2026-11-21T12:00:00Z "
        "keep=2026-11-21T12:00:00Z final=debian-12"
    )


def test_the_longest_mark_fits_a_description() -> None:
    longest = Mark(
        run=UUID(int=2**128 - 1),
        attempt=10**6,
        server="f" * 64,
        host=HostProcess("f" * 8 + "-ffff-ffff-ffff-" + "f" * 12, 2**64 - 1, 2**22, 2**64 - 1),
        until=ONE.until,
        keep=ONE.until,
        final="f" * 128,
    )
    assert len(str(longest)) <= DESCRIPTION_LENGTH


@pytest.mark.parametrize(
    "changes",
    [{"server": ""}, {"server": "prefect.example.com"}, {"server": "a b"}, {"final": "a\nb"}, {"final": ""}],
)
def test_a_mark_that_could_not_be_read_again_cannot_be_made(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="mark"):
        replace(ONE, **changes)  # type: ignore[arg-type]


def test_runs_are_told_apart_by_the_end_of_their_ids() -> None:
    assert ONE.tail == run_tail(ONE.run) == "deadbeef"


def test_this_process_is_alive() -> None:
    ourselves = HostProcess.current()
    assert (ourselves.pid, ourselves.on_this_host, ourselves.is_alive) == (os.getpid(), True, True)
    assert HostProcess.parse(str(ourselves)) == ourselves


def test_another_process_of_the_same_number_is_not_ours() -> None:
    ourselves = HostProcess.current()
    assert replace(ourselves, start=ourselves.start - 1).is_alive is False


@pytest.mark.parametrize("comm", ["plain", "with ) ( and blanks"])
def test_another_process_lives_until_it_ends(comm: str) -> None:
    script = (
        f"import sys; open('/proc/self/comm', 'w').write({comm!r}); sys.path.insert(0, '.');"
        "from tasks.mark import HostProcess; print(HostProcess.current(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        process = HostProcess.parse(other.stdout.readline().strip())
        assert process.is_alive is True
        other.kill()
        # Not yet waited for: dead, and still in the process table.
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert process.is_alive is False
    assert process.is_alive is False


@pytest.mark.parametrize("changes", [{"boot_id": "0" * 8 + "-0000-0000-0000-" + "0" * 12}, {"pid_namespace": 1}])
def test_of_another_host_or_namespace_nothing_is_known(changes: dict[str, object]) -> None:
    other = replace(HostProcess.current(), **changes)  # type: ignore[arg-type]
    assert (other.on_this_host, other.is_alive) == (False, None)
