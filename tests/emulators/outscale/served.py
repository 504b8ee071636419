"""A region in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

ROOT = Path(__file__).parents[3]


class Served:
    def __init__(self, state: Path, *options: str) -> None:
        self.state = state
        self.process = subprocess.Popen(
            [sys.executable, "-m", "emulators.outscale", "serve", "--state", str(state), *options],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self.process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self.process.stdout.readline())
        self.credentials: dict[str, str] = json.loads(Path(self.ready["credentials_file"]).read_text())

    def operations(self) -> set[str]:
        with httpx.Client(trust_env=False) as client:
            requests = client.get(f"{self.ready['control']}/requests").json()["requests"]
        return {request["operation"] for request in requests}

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.communicate(timeout=30)
        finally:
            self.kill()
