"""Whether this machine's KVM runs guests. `/dev/kvm` may be there and hang every guest, so one is run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from pathlib import Path

from emulators.machines.process import dying_with_us

DEADLINE = 3.0
"""Seconds for the probe's guest, which needs a fraction of one."""

_DEVICE = "/dev/kvm"
_EXIT = 0x10
# mov dx, 0xf4; mov al, _EXIT; out dx, al; hlt; jump back to hlt: QEMU's isa-debug-exit ends it with (_EXIT << 1) | 1.
_BOOT_SECTOR = bytes([0xBA, 0xF4, 0x00, 0xB0, _EXIT, 0xEE, 0xF4, 0xEB, 0xFD]).ljust(510, b"\0") + b"\x55\xaa"


def cache_file() -> Path:
    """Where the answer is kept: in the user's cache, for as long as this machine is up."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "image-bakery" / "kvm.json"


async def kvm_runs_guests(cache: Path | None = None) -> bool:
    """Whether a guest was seen to run with KVM within `DEADLINE`, now or earlier since this machine booted."""
    cache = cache or cache_file()
    known = _recall(cache)
    if known is not None:
        return known
    runs = os.access(_DEVICE, os.R_OK | os.W_OK) and await _probe()
    _remember(cache, runs)
    return runs


def _recall(cache: Path) -> bool | None:
    try:
        known = json.loads(cache.read_text())
        return bool(known["runs"]) if known["key"] == _key() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(cache: Path, runs: bool) -> None:
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        temporary = cache.with_name(f"{cache.name}.{os.getpid()}")
        temporary.write_text(json.dumps({"key": _key(), "runs": runs}) + "\n")
        temporary.rename(cache)


def _key() -> str:
    """What the answer depends on: this boot of the machine, and whether this user may open the device."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot_id} {os.access(_DEVICE, os.R_OK | os.W_OK)}"


async def _probe() -> bool:
    with tempfile.TemporaryDirectory(prefix="kvm-probe-") as directory:
        sector = _write(Path(directory, "boot.raw"))
        # fmt: off
        process = await asyncio.create_subprocess_exec(
            *dying_with_us([
                "qemu-system-x86_64", "-M", "q35,accel=kvm", "-cpu", "host", "-m", "64",
                "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04",
                "-drive", f"file={sector},format=raw,if=virtio,readonly=on",
            ]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        # fmt: on
        try:
            async with asyncio.timeout(DEADLINE):
                return await process.wait() == (_EXIT << 1) | 1
        except TimeoutError:
            return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _write(path: Path) -> Path:
    path.write_bytes(_BOOT_SECTOR)
    return path
