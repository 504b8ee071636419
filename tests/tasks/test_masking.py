from __future__ import annotations

import base64
import json
import logging
import shlex
from collections.abc import Iterator
from io import StringIO
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from blocks.errors import ApiError, BakeryError, LeftBehind
from tasks import masking
from tasks.masking import MASK, keep_secret, mask_error, masked

TOKEN = "oxide-token-'äöü \"/+ 0123"
PEM = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\n"
    "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU\nQyNTUxOQAAACB0aGUgc2Vjb25kIGxpbmU=\n-----END-----\n"
)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_texts", set())


@pytest.fixture
def written() -> Iterator[StringIO]:
    """What the root logger's handler writes."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)


@pytest.mark.parametrize(
    "shape",
    [
        TOKEN,
        quote(TOKEN, safe=""),
        json.dumps({"token": TOKEN}),
        base64.b64encode(TOKEN.encode()).decode(),
        f"token={shlex.quote(TOKEN)}",
    ],
)
def test_a_secret_is_masked_in_every_shape_it_takes(shape: str) -> None:
    keep_secret(SecretStr(TOKEN))
    clean = masked(f"before {shape} after")
    assert MASK in clean
    assert clean.startswith("before ")
    assert clean.rstrip("=").endswith(" after")
    for word in ("0123", "äöü", "oxide-token", "b3hpZGU"):
        assert word not in clean


def test_each_line_of_a_key_is_as_secret_as_the_whole() -> None:
    keep_secret(SecretStr(PEM))
    for line in PEM.splitlines()[1:3]:
        assert masked(f"+ {line}") == f"+ {MASK}"
    assert masked(PEM) == MASK


def test_of_two_secrets_the_longer_is_masked_whole() -> None:
    keep_secret(SecretStr("secret"))
    keep_secret(SecretStr("secret-and-more"))
    assert masked("secret-and-more secret") == f"{MASK} {MASK}"


def test_one_that_is_too_short_would_blacken_everything() -> None:
    keep_secret(SecretStr("abc"))
    keep_secret(SecretStr(""))
    assert masked("abc") == "abc"


def test_errors_are_masked_along_their_causes() -> None:
    keep_secret(SecretStr(TOKEN))
    try:
        try:
            try:
                raise OSError(5, f"cannot use {TOKEN}")
            except OSError as error:
                raise ValueError(TOKEN, 7) from error
        except ValueError:
            raise ApiError(
                f"what {TOKEN}", resource=f"host {TOKEN}", why=TOKEN, hint=TOKEN, status=400, code=TOKEN
            ) from None
    except ApiError as error:
        mask_error(error)
        chain: list[BaseException] = [error]
        while (below := chain[-1].__cause__ or chain[-1].__context__) is not None:
            chain.append(below)
        assert [type(link) for link in chain] == [ApiError, ValueError, OSError]
        for link in chain:
            assert TOKEN not in str(link) + repr(link.args)
            assert MASK in str(link)
        assert chain[1].args == (MASK, 7)


def test_an_error_with_both_a_cause_and_a_context() -> None:
    keep_secret(SecretStr(TOKEN))
    error = LeftBehind("x")
    error.__cause__, error.__context__ = ValueError(TOKEN), KeyError(TOKEN)
    mask_error(error)
    assert TOKEN not in repr((error.__cause__, error.__context__))


def test_groups_of_errors() -> None:
    keep_secret(SecretStr(TOKEN))
    group = ExceptionGroup("several", [BakeryError(TOKEN), ExceptionGroup("more", [ValueError(TOKEN)])])
    mask_error(group)
    assert TOKEN not in repr(group) + str(group.exceptions[0])


def test_an_error_that_is_its_own_context() -> None:
    one, other = ValueError(TOKEN), ValueError(TOKEN)
    one.__context__, other.__context__ = other, one
    mask_error(one)


def test_log_records_are_masked(written: StringIO) -> None:
    keep_secret(SecretStr(TOKEN))
    log = logging.getLogger("image_bakery.test")
    log.warning("plain %s and %d", TOKEN, 7)
    log.warning(f"%d percent of {TOKEN}", 100)
    log.warning("100%% of %s", "it")
    try:
        raise BakeryError(TOKEN)
    except BakeryError:
        log.exception("it failed")
    assert TOKEN not in written.getvalue()
    assert f"plain {MASK} and 7\n100 percent of {MASK}\n100% of it\nit failed\nTraceback" in written.getvalue()


def test_a_record_that_cannot_be_formatted_does_not_end_the_build(
    written: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    keep_secret(SecretStr(TOKEN))
    log = logging.getLogger("image_bakery.test")
    log.warning("%d", "no number")
    log.warning("still here")
    assert "still here" in written.getvalue()
