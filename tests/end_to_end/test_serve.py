"""Everything on one machine: it comes up, says where it is, and leaves nothing running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.conftest import needs_root
from tests.end_to_end.world import eventually, free_port, process


@pytest.mark.timeout(280)
@pytest.mark.xdist_group("prefect-outscale")
def test_a_look_around(tiny: Path, tmp_path: Path) -> None:
    needs_root("block devices")
    state, log = tmp_path / "state", tmp_path / "serve.log"
    argv = ["tools/serve", "--state", str(state), "--guest", str(tiny), "--port", str(free_port())]
    with process(argv, log, os.environ, grace=60) as serve:

        def said() -> str | None:
            assert serve.poll() is None, log.read_text(encoding="utf-8")
            text = log.read_text(encoding="utf-8")
            return text if "Ctrl-C stops everything" in text else None

        text = eventually(said, 200, f"everything is there; see {log}")
        prefect = re.search(r"^Prefect: +(\S+)$", text, re.M)
        assert prefect
        found = httpx.post(f"{prefect[1]}/api/deployments/filter", json={}, trust_env=False, timeout=30).json()
        assert {"base", "web-shop", "web-blog", "app", "omi", "reclaim"} <= {each["name"] for each in found}
        serve.send_signal(signal.SIGTERM)
        assert serve.wait(120) == 0
    left = subprocess.run(["pgrep", "--full", "--list-full", str(state)], capture_output=True, text=True, check=False)
    assert left.stdout == ""
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{prefect[1]}/api/health", trust_env=False, timeout=5)
