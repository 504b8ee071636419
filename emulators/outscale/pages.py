"""Lists as pages: `ResultsPerPage` and `NextPageToken`.

A token names the last record of its page, so that what comes and goes meanwhile shifts nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from emulators.outscale import errors
from emulators.outscale.bodies import Read
from emulators.outscale.shelves import Age

Json = dict[str, Any]
Place = list[str]
"""Where a record is in its list."""
R = TypeVar("R")

_MOST = 1000
"""Records on a page: the most that may be asked for, and what a request gets that does not say."""


def page(key: str, found: Iterable[R], read: Read, view: Callable[[R], Json], place: Callable[[R], Place]) -> Json:
    """One page of records that are in order and begin behind the last page."""
    records = iter(found)
    shown = list(islice(records, read.results_per_page or _MOST))
    content: Json = {key: [view(record) for record in shown]}
    if next(records, None) is not None:
        content["NextPageToken"] = base64.b64encode(json.dumps(place(shown[-1])).encode()).decode()
    return content


def of_list(key: str, found: Iterable[R], read: Read, view: Callable[[R], Json], place: Callable[[R], Place]) -> Json:
    """One page of a short list in any order."""
    last = behind(read)
    ordered = sorted(found, key=place)
    return page(key, (record for record in ordered if last is None or place(record) > last), read, view, place)


def behind(read: Read) -> Place | None:
    """The place of the last page's last record; None for the first page.

    Raises:
        ApiError: the token is none of this region.
    """
    if read.next_page_token is None:
        return None
    try:
        last = json.loads(base64.b64decode(read.next_page_token, validate=True))
    except (ValueError, RecursionError):
        last = None
    if not isinstance(last, list) or not all(isinstance(part, str) for part in last):
        raise errors.invalid_value(errors.INVALID_VALUE, "NextPageToken is not valid.")
    return last


def behind_age(read: Read) -> Age | None:
    """The place of the last page's last record in the order of age; None for the first page.

    Raises:
        ApiError: the token is none of this region, or of another list.
    """
    last = behind(read)
    if last is None:
        return None
    try:
        moment, record_id = last
        made = datetime.fromisoformat(moment)
    except ValueError:
        made = None
    if made is None or made.tzinfo is None:
        raise errors.invalid_value(errors.INVALID_VALUE, "NextPageToken is not valid.")
    return made, record_id


def of_age(age: Age) -> Place:
    """A place in the order of age, as a token has it."""
    return [age[0].isoformat(), age[1]]
