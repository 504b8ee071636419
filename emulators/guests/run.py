"""Programs of the host, run for a build."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path


class BuildError(Exception):
    """A guest could not be built; the message says which step failed and what to do."""


def progress(message: str) -> None:
    """Say what happens now."""
    print(f"  {message}", flush=True)


def run(argv: Sequence[str | Path], *, cwd: Path | None = None, data: bytes | None = None) -> bytes:
    """Run a program to its end and return its standard output.

    Raises:
        BuildError: the program is missing or failed; holds the end of its standard error.
    """
    try:
        done = subprocess.run(
            [str(word) for word in argv],
            cwd=cwd,
            input=data if data is not None else b"",
            capture_output=True,
            env=_environment(),
            check=False,
        )
    except FileNotFoundError as error:
        raise _missing(argv) from error
    if done.returncode != 0:
        tail = done.stderr.decode(errors="replace").strip()[-2000:]
        raise BuildError(f"{argv[0]} failed with status {done.returncode}: {tail}")
    return done.stdout


def talk(argv: Sequence[str | Path]) -> None:
    """Run a program that says what it does, and pass that on as progress.

    Raises:
        BuildError: the program is missing or failed; holds its last lines.
    """
    last: list[str] = []
    try:
        process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=_environment(),
        )
    except FileNotFoundError as error:
        raise _missing(argv) from error
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last = [*last[-30:], line.strip()]
                if line.startswith("I: "):
                    progress(f"{argv[0]}: {line[3:].strip()}")
        except BaseException:
            # It takes its own children and temporary files with it.
            process.terminate()
            raise
    if process.returncode != 0:
        raise BuildError(f"{argv[0]} failed with status {process.returncode}: " + "\n".join(last))


def _environment() -> dict[str, str]:
    # File system tools live where an ordinary user's PATH does not look.
    path = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
    return {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "PATH": path}


def _missing(argv: Sequence[str | Path]) -> BuildError:
    return BuildError(f"{argv[0]} is not installed. `python -m emulators.guests packages` lists what to install.")
