"""Guests and jails in which odd things happen: each a build that nobody kills, and that must end well or clearly."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.census import Census
from tests.chaos.lane import Build, Lane
from tests.chaos.points import Outcome, Point
from tests.chaos.scenarios import SHELL, judged, outcome, scenario

_MEMORY = 400 << 10
"""KiB that a build may take, whatever a guest says."""
_VICTIM = "/var/tmp/chaos-victim-{}"


@dataclass(frozen=True)
class Odd:
    """One odd thing."""

    provisioners: tuple[Mapping[str, Any], ...] = (SHELL,)
    behaviour: Mapping[str, Any] = field(default_factory=dict)
    """Of the guest."""
    options: Mapping[str, Any] = field(default_factory=dict)
    ends: str = ""
    """How the build has to end; empty: either way."""
    says: str = ""
    """What its log has to say."""
    meanwhile: Callable[[Lane], AbstractContextManager[None]] = lambda _: nullcontext()


def _shell(*lines: str, **options: Any) -> dict[str, Any]:
    return {"type": "shell", "name": "odd", "inline": list(lines), **options}


_QUIET = _shell("sleep 3", "echo still here")

BOTH = {
    "a-gigabyte-of-output": Odd(
        (_shell("for line in $(seq 1024); do head -c 1048576 /dev/zero | tr '\\0' x; echo; done"),), ends="succeeded"
    ),
    "twenty-thousand-lines": Odd((_shell("seq 20000"),), ends="succeeded"),
    "a-line-of-10-megabytes": Odd((_shell("head -c 10485760 /dev/zero | tr '\\0' x", "echo"),), ends="succeeded"),
    "a-hung-command": Odd((_shell("sleep 9999", timeout="3s"),), ends="failed", says="timeout"),
    "a-script-that-kills-its-shell": Odd((_shell("kill -9 $$"),), ends="failed"),
    "output-that-is-no-text": Odd((_shell("head -c 100000 /dev/urandom", "echo"),), ends="succeeded"),
    "a-daemon": Odd(
        (_shell("setsid sleep 9876 > /dev/null 2>&1 < /dev/null &", "(trap '' TERM HUP; exec sleep 9875) &"),),
        ends="succeeded",
    ),
}

OXIDE = {
    "ssh-dropped": Odd((_QUIET, SHELL), {"ssh_drop_after": 1.5, "ssh_drops": 1}),
    "ssh-dropped-always": Odd((_QUIET, SHELL), {"ssh_drop_after": 1.5}),
    "another-host-key": Odd(
        (_QUIET, SHELL), {"ssh_drop_after": 1.5, "ssh_drops": 1, "ssh_impostor_from": 1}, ends="failed"
    ),
    "never-comes-up": Odd(behaviour={"never_boots": True}, options={"ssh_timeout": "8s"}, ends="failed", says="SSH"),
    "no-ssh-server": Odd(behaviour={"ssh_down": True}, options={"ssh_timeout": "8s"}, ends="failed"),
    "refuses-the-key": Odd(behaviour={"refuses_auth": True}, options={"ssh_timeout": "8s"}, ends="failed"),
    "greets-late": Odd(behaviour={"ssh_banner_delay": 2}, ends="succeeded"),
    "dies-in-a-provisioner": Odd((_shell("sleep 60"),), {"dies_after_seconds": 4.0}, ends="failed"),
    "full-disk": Odd(
        # Its own small file system; busybox's head would call it an I/O error.
        (_shell("cat /dev/zero > /dev/full-disk"),),
        ends="failed",
        says="No space left on device",
    ),
    "slow-to-shut-down": Odd(behaviour={"shutdown_seconds": 5}, ends="succeeded"),
    "never-shuts-down": Odd(behaviour={"shutdown_seconds": 600}, options={"shutdown_timeout": "4s"}),
}


@contextmanager
def _untouched_host(_: Lane) -> Iterator[None]:
    """A file and a directory of the host, and its devices, which must be afterwards as they were."""
    victim = Path(_VICTIM.format("file"))
    victim.write_text("the host's\n", encoding="utf-8")
    devices = {path.name for path in Path("/dev").iterdir()}
    try:
        yield
        assert victim.read_text(encoding="utf-8") == "the host's\n", "a file of the host was written"
        new = {
            name
            for name in {path.name for path in Path("/dev").iterdir()} - devices
            if not name.startswith(("loop", "xvd"))
        }
        assert not new, f"the host's /dev has {new}"
        hostname = Path("/proc/sys/kernel/hostname").read_text(encoding="utf-8").strip()
        assert hostname != "jailed", "the host was renamed"
    finally:
        victim.unlink()


@contextmanager
def _busy_device(lane: Lane) -> Iterator[None]:
    """A program of the host that looks at the volume's device for some seconds, as udev's probes do."""
    stop = threading.Event()

    def hold() -> None:
        while not stop.wait(0.05):
            for volume in lane.region.inventory().get("volumes", ()):
                if volume.get("loop") and volume.get("device"):
                    with suppress(OSError):
                        descriptor = os.open(volume["loop"], os.O_RDONLY | os.O_CLOEXEC)
                        stop.wait(5)
                        os.close(descriptor)
                        return

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


OUTSCALE = {
    "daemons": Odd(
        (_shell("sleep 9874 &", "setsid sh -c 'cd /; exec sleep 9873' < /dev/null > /dev/null 2>&1 &", "sleep 0.2"),),
        ends="succeeded",
        says="left a process running",
    ),
    "a-bind-mount": Odd(
        (_shell("mkdir -p /a /b", "mount --bind /a /b", "mount -t tmpfs none /a", "echo there > /a/file"),),
        meanwhile=_untouched_host,
    ),
    "dev-written": Odd(
        (_shell("echo x > /dev/chaos-made", "mkdir /dev/chaos-directory"),),
        ends="succeeded",
        meanwhile=_untouched_host,
    ),
    "symlinks-at-the-host": Odd(
        (
            _shell(
                f"ln -s ../../../../../../..{_VICTIM.format('file')} /link",
                f"mkdir -p {Path(_VICTIM).parent}",
                "ln -sf /proc/1/root /host",
                f"echo overwritten > /link || true; echo overwritten > /host{_VICTIM.format('file')} || true",
            ),
            {"type": "file", "source": "/etc/hostname", "destination": "/link"},
        ),
        meanwhile=_untouched_host,
    ),
    "renames-the-host": Odd((_shell("hostname jailed || true"),), ends="succeeded", meanwhile=_untouched_host),
    "kills-everything": Odd((_shell("kill -TERM -1; sleep 1; echo survived"),), meanwhile=_untouched_host),
    "a-busy-device": Odd((_shell("sleep 1"),), meanwhile=_busy_device),
    "full-disk": Odd((_shell("cat /dev/zero > /full"),), ends="failed", says="No space left on device"),
    "a-process-that-ignores-signals": Odd(
        (_shell("(trap '' TERM INT HUP; while :; do sleep 1; done) > /dev/null 2>&1 &"),), ends="succeeded"
    ),
    "an-open-file-in-a-daemon": Odd((_shell("tail -f /dev/null >> /held 2>&1 < /dev/null &"),), ends="succeeded"),
}


def odd_things(builder: str) -> dict[str, Odd]:
    """What can be odd with a builder."""
    return {**BOTH, **(OXIDE if builder == "oxide" else OUTSCALE)}


VIRTUAL = {"full-root": Odd((_shell("cat /dev/zero > /full"),), ends="failed", says="No space left on device")}
"""What only a virtual machine has of its own: cheap machines share the host's disk."""


@scenario
def odd_guest(lane: Lane, point: Point, before: Census) -> Outcome:
    """A build in which something odd happens."""
    name = point.parameters["name"]
    odd = {**odd_things(lane.builder), **VIRTUAL}[name]
    if odd.behaviour:
        lane.control(
            "POST", "/faults", {"operation": "instance_create", "kind": "behaviour", "behaviour": dict(odd.behaviour)}
        )
    result = outcome(point, "", name)
    build: Build | None = None
    try:
        with odd.meanwhile(lane):
            build = lane.start_build(lane.definition(*odd.provisioners, **odd.options))
            code, peak = _watched(build)
    except AssertionError as error:
        result.touched.append(str(error))
    assert build is not None
    code = build.wait()
    result = judged(lane, build, code, result, before)
    if odd.ends and result.ended != odd.ends:
        result.wrong.append(f"it {result.ended}, and should have {odd.ends}: {build.said[-300:]}")
    if odd.says and odd.says not in build.said:
        result.wrong.append(f"its log does not say {odd.says!r}")
    if peak > _MEMORY:
        result.wrong.append(f"it took {peak >> 10} MiB of memory")
    return result


def _watched(build: Build) -> tuple[int | None, int]:
    """Wait for a build; its exit code, and the most memory that it had, in KiB."""
    peak = 0
    end = time.monotonic() + 200
    while build.child.poll() is None and time.monotonic() < end:
        with suppress(OSError, KeyError, ValueError):
            status = Path(f"/proc/{build.pid}/status").read_text(encoding="utf-8")
            peak = int(dict(line.split(":", 1) for line in status.splitlines())["VmHWM"].split()[0])
        time.sleep(0.2)
    return build.wait(1), peak
