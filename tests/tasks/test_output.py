from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from tasks import masking
from tasks.masking import MASK, keep_secret
from tasks.output import Lines

SECRET = "oxide-token-0123456789"


def lines_of(*chunks: bytes) -> list[str]:
    logged: list[str] = []
    lines = Lines(logged.append)
    for chunk in chunks:
        lines.feed(chunk)
    lines.end()
    return logged


@pytest.fixture(autouse=True)
def one_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_texts", set())
    keep_secret(SecretStr(SECRET))


@pytest.mark.parametrize(
    ("chunks", "logged"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"on", b"e\ntw", b"o"], ["one", "two"]),
        ([b"", b"\n\n", b" \n"], []),
        ([b"one\r\ntwo\r", b"\nthree\r\n"], ["one", "two", "three"]),
        ([b" 10%\r 50%\r100%\n"], [" 10%", " 50%", "100%"]),
        ([b"a\tb\x1b[31mred\x00\x07\n"], ["a\tb·[31mred··"]),
        ([b"\xff\xfe ok\n"], ["\ufffd\ufffd ok"]),
        (["ä".encode()[:1], "ä".encode()[1:] + b"\n"], ["ä"]),
        (["ä".encode()[:1]], ["\ufffd"]),
        ([f"x {SECRET} y\n".encode()], [f"x {MASK} y"]),
        ([f"x {SECRET}"[:9].encode(), f"x {SECRET}"[9:].encode()], [f"x {MASK}"]),
    ],
)
def test_lines_come_whole(chunks: list[bytes], logged: list[str]) -> None:
    assert lines_of(*chunks) == logged


def test_lines_are_handed_over_as_they_come() -> None:
    logged: list[str] = []
    lines = Lines(logged.append)
    lines.feed(b"one\ntw")
    assert logged == ["one"]
    lines.feed(b"o\n")
    assert logged == ["one", "two"]
    lines.end()
    assert logged == ["one", "two"]


def test_a_line_of_a_megabyte_is_cut_and_counted() -> None:
    logged = lines_of(*[b"x" * 1000] * 1000, b"\nnext\n")
    assert logged == [f"{'x' * 4000} … (996,000 more characters in this line)", "next"]


def test_little_is_held_of_a_line_without_end() -> None:
    lines = Lines(lambda _: None)
    for _ in range(100):
        lines.feed(b"x" * 100_000)
    assert len(lines._line) < 100_000
    lines.end()


@pytest.mark.parametrize("start", [3_990, 4_000 - len(SECRET), 3_999])
def test_a_secret_across_the_cut_is_not_shown_in_part(start: int) -> None:
    (line,) = lines_of(b"x" * start + SECRET.encode() + b"y" * 500)
    assert "oxide" not in line.partition(" … ")[0].replace(MASK, "")


def test_a_secret_across_the_end_of_what_is_held_is_not_shown_in_part() -> None:
    # Masks are shorter than what they mask, so that the end of what is held may come into sight.
    long = "k" * 9_000 + "end"
    keep_secret(SecretStr(long))
    (line,) = lines_of((long * 9).encode())
    assert "kkkk" not in line


def test_the_last_lines_are_kept_for_the_error() -> None:
    lines = Lines(lambda _: None)
    lines.feed("".join(f"{number} {SECRET}\n" for number in range(50)).encode())
    assert list(lines.tail) == [f"{number} {MASK}" for number in range(30, 50)]


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_however_it_is_cut_the_same_lines_come(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    if b"\r" not in whole:
        assert lines_of(*chunks) == lines_of(whole)
    assert [line for chunk in lines_of(*chunks) for line in chunk.split()] == [
        line for chunk in lines_of(whole) for line in chunk.split()
    ]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=200))
def test_nothing_is_lost(text: str) -> None:
    assert "".join(lines_of(text.encode())) == text
