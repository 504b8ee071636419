"""A Prefect server for one build, for hosts that have none.

Prefect would start one by itself; but in our process group, so that Ctrl-C at a terminal ends the server together with
the build, which then waits for a minute for a server that is gone and never reports how it ended. This one is in a
session of its own, and the kernel ends it with us whatever happens (`setpriv --pdeathsig`).
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from blocks.errors import BakeryError
from tasks.mark import LOCAL_SERVER

_START = 90


def start_prefect_server() -> Callable[[], None]:
    """Begin to start a Prefect server, unless the environment names one. Call it before Prefect is imported.

    Returns:
        What waits until the server answers, and makes it Prefect's. It raises BakeryError when it does not start. Where
        the Prefect profile names a server, that one is used.
    """
    if os.environ.get("PREFECT_API_URL"):
        return lambda: None
    port = _free_port()
    server = subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-m", "uvicorn", "--factory"),
            *("prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", str(port)),
            *("--log-level", "error", "--lifespan", "on", "--timeout-graceful-shutdown", "2"),
        ],
        env={
            **os.environ,
            "PREFECT_UI_ENABLED": "0",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT__SERVER_EPHEMERAL": "1",
            "PREFECT__SERVER_FINAL": "1",
        },
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    # Exit functions run in reverse: this one, older than Prefect's, runs once Prefect has sent its last logs.
    atexit.register(_stop, server)
    return lambda: _use(server, port)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _use(server: subprocess.Popen[bytes], port: int) -> None:
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    if get_current_settings().api.url is not None:
        return  # the Prefect profile names a server
    _wait_for(server, port)
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    os.environ.setdefault("IMAGE_BAKERY_SERVER", LOCAL_SERVER)
    refresh_global_settings_context()


def _wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + _START
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise BakeryError(
        "the build's own Prefect server did not start",
        why=f"it ended with code {server.returncode}" if server.returncode is not None else f"not up after {_START} s",
        hint="Start one with `prefect server start` and set PREFECT_API_URL.",
    )
