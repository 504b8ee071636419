"""The metadata service at the address that it has in the cloud, in a network of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.emulators.outscale import needs
from tests.emulators.outscale.served import ROOT

_ADDRESS = "169.254.169.254"
_ASK = (
    "import sys, urllib.request as r; "
    "print(r.build_opener(r.ProxyHandler({})).open(sys.argv[1], timeout=10).read().decode())"
)


@pytest.fixture
def network() -> Iterator[list[str]]:
    """How to run something in a network namespace that has the metadata service's address."""
    needs.root()
    ip = needs.ip()
    argv = [
        "unshare",
        "--net",
        "sh",
        "-c",
        f"{ip} link set lo up && {ip} addr add {_ADDRESS}/32 dev lo && echo . && cat",
    ]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        if holder.stdout.read(1) != b".":
            pytest.skip("this machine lets nobody make a network namespace")
        yield ["nsenter", "--net", "--target", str(holder.pid), "--"]
        holder.communicate()


@contextmanager
def _serve(state: Path, *options: str, within: list[str]) -> Iterator[subprocess.Popen[str]]:
    argv = [
        *within,
        sys.executable,
        "-m",
        "emulators.outscale",
        "serve",
        "--state",
        str(state),
        "--no-devices",
        *options,
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as served:
        try:
            yield served
        finally:
            served.kill()


def test_only_within_a_namespace_it_has_the_cloud_s_address(network: list[str], tmp_path: Path) -> None:
    options = ("--metadata", f"{_ADDRESS}:80", "--vm", "i-0000000a")
    url = f"http://{_ADDRESS}/latest/meta-data/instance-id"
    with _serve(tmp_path / "state", *options, within=network) as served:
        assert served.stdout is not None
        assert f'"metadata": "http://{_ADDRESS}:80"' in served.stdout.readline()
        within = [*network, sys.executable, "-c", _ASK, url]
        told = subprocess.run(within, capture_output=True, text=True, check=True, timeout=60)
        assert told.stdout == "i-0000000a\n"
        # This machine itself has got no such address.
        with socket.socket() as probe, pytest.raises(OSError, match="Cannot assign"):
            probe.bind((_ADDRESS, 0))


def test_outside_it_says_that_the_address_cannot_be_had(tmp_path: Path) -> None:
    with _serve(tmp_path / "state", "--metadata", f"{_ADDRESS}:80", within=[]) as served:
        _, said = served.communicate(timeout=60)
    assert served.returncode == 1
    assert f"cannot listen on {_ADDRESS}:80" in said
