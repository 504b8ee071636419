"""Somebody is told when a build fails, by one of Prefect's own notification blocks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest

from tests.end_to_end.world import ROOT, Prefect, eventually

_SET_UP = """
import asyncio, sys
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from flows.fleet.notification import notify

async def main():
    data = {"subject": "{{subject}}", "body": "{{body}}"}
    block = CustomWebhookNotificationBlock(name="listener", url=sys.argv[1], json_data=data)
    await block.save("listener", overwrite=True)
    async with get_client() as client:
        await notify(client, "custom-webhook/listener")
        print(await notify(client, "custom-webhook/listener"))

asyncio.run(main())
"""


@contextmanager
def listener() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An HTTP server that keeps what it is told."""
    told: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send(prefect: Prefect, event: str, **payload: str) -> None:
    said = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": event,
        "resource": {"prefect.resource.id": f"image-bakery.definition.{payload['definition']}"},
        "payload": {"event": event, **payload},
    }
    prefect.request("POST", "/events", [said])


@pytest.mark.timeout(200)
@pytest.mark.xdist_group("prefect")
def test_a_failed_build_is_told_once_with_what_to_do(prefect: Prefect) -> None:
    with listener() as (url, told):
        done = subprocess.run(
            [sys.executable, "-c", _SET_UP, url],
            env=dict(prefect.env), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        automations = prefect.request("POST", "/automations/filter", {})
        (ours,) = [each for each in automations if each["name"] == done.stdout.splitlines()[-1]]
        try:
            send(
                prefect, "image.failed",
                definition="shop", what="the script ended with exit code 3", step="provision: shell 1", hint="Mend it.",
                run="a-run",
            )  # fmt: skip
            send(prefect, "image.built", definition="other", run="another-run")
            send(prefect, "image.blocked", definition="kiosk", by="shop", run="a-run")
            eventually(lambda: len(told) >= 2, 60, "both are told")
        finally:
            prefect.request("DELETE", f"/automations/{ours['id']}")
    by_subject = {each["subject"]: each["body"] for each in told}
    assert set(by_subject) == {"shop: image.failed", "kiosk: image.blocked"}
    assert len(told) == 2
    failed = by_subject["shop: image.failed"]
    for said in ("In step provision: shell 1", "exit code 3", "→ Mend it.", "a-run"):
        assert said in failed
    assert "shop failed" in by_subject["kiosk: image.blocked"]
