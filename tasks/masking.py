"""Secrets never leave in text: what is known to be secret is masked in logs, errors and reports of this process."""

from __future__ import annotations

import base64
import json
import logging
import shlex
from urllib.parse import quote

from pydantic import SecretStr

MASK = "********"
_SHORTEST = 4
_OS_ERROR = ("strerror", "filename", "filename2")

_texts: set[str] = set()


def keep_secret(secret: SecretStr) -> SecretStr:
    """From now on mask a secret, also as it looks in URLs, JSON, Base64 and shell words.

    One of fewer than four characters is not masked: it would blacken half of every line.
    """
    value = secret.get_secret_value()
    whole = {
        value,
        quote(value, safe=""),
        json.dumps(value)[1:-1],
        base64.b64encode(value.encode()).decode().rstrip("="),
        shlex.quote(value).strip("'"),
    }
    # Of a key file each line is as secret as the whole, since logs go line by line.
    lines = {line.strip() for line in value.splitlines() if len(line.strip()) >= 16}
    _texts.update(text for text in whole | lines if len(text) >= _SHORTEST)
    _watch_logs()
    return secret


def masked(text: str) -> str:
    """The text with every known secret masked, the longest first."""
    for secret in sorted(_texts, key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, MASK)
    return text


def longest_secret() -> int:
    """How many characters the longest known secret has."""
    return max(map(len, _texts), default=0)


def mask_error(error: BaseException) -> None:
    """Mask the texts that an exception will show, in place, along its causes and in groups.

    Prefect stores an exception's text in states, logs and events, in clear.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        current.args = tuple(masked(arg) if isinstance(arg, str) else arg for arg in current.args)
        # An OSError shows its fields and not its arguments, a BakeryError its own.
        for name, text in [*vars(current).items(), *((name, getattr(current, name, None)) for name in _OS_ERROR)]:
            if isinstance(text, str) and masked(text) != text:
                setattr(current, name, masked(text))
        waiting += [current.__cause__, current.__context__]
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions


class _MaskFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        try:
            text = record.getMessage()
        except Exception:  # the handler says what is wrong with the record; a filter's error would end the build
            return True
        clean = masked(text)
        if clean != text:
            record.msg, record.args = clean, None
        if record.exc_info and record.exc_info[1]:
            mask_error(record.exc_info[1])
        return True


_FILTER = _MaskFilter()


def _watch_logs() -> None:
    # On the handlers and not on the loggers: a logger's filters do not see what its children hand up.
    for logger in (logging.getLogger(), *map(logging.getLogger, ("prefect", "prefect.flow_runs", "prefect.task_runs"))):
        for handler in logger.handlers:
            if _FILTER not in handler.filters:
                handler.addFilter(_FILTER)
