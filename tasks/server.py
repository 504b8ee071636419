"""Which Prefect server this is: its own random name, so that marks of different servers are told apart."""

from __future__ import annotations

import secrets
from contextlib import suppress

from blocks.settings import settings
from tasks.mark import LOCAL_SERVER

_VARIABLE = "image_bakery_server"
_names: dict[str, str] = {}
"""By API URL: a server keeps its name."""


async def server_name() -> str:
    """The server's name, written into a Prefect Variable by the first build that asks.

    A server that does not outlast its build (no API URL is set, or the setting `server` says so) is `local`.
    """
    if settings().server is not None:
        return str(settings().server)
    from prefect.settings import get_current_settings
    from prefect.variables import Variable

    url = get_current_settings().api.url
    if url is None:
        return LOCAL_SERVER
    if url not in _names:
        name = await Variable.aget(_VARIABLE)
        if name is None:
            with suppress(ValueError):  # another build was quicker: its name counts
                await Variable.aset(_VARIABLE, secrets.token_hex(8))
            name = await Variable.aget(_VARIABLE)
        _names[url] = str(name)
    return _names[url]
