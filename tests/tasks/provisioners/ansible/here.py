"""This host as the system that is being made, for what needs no other."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path

from blocks.errors import CommunicatorError
from tasks.communicator import Output


@dataclass
class ThisHost:
    """Commands and files of this host."""

    ended: list[str] = field(default_factory=list)
    """Commands that were cancelled."""
    at_once: int = 0
    most_at_once: int = 0

    async def run(self, command: str, output: Output) -> int:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            said, _ = await process.communicate()
        except asyncio.CancelledError:
            self.ended.append(command)
            os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()
            raise
        finally:
            self.at_once -= 1
        output(said)
        return process.returncode if process.returncode is not None and process.returncode >= 0 else -1

    async def upload(self, source: Path | bytes, destination: str, mode: int) -> None:
        there = Path(destination)
        try:
            there.write_bytes(source if isinstance(source, bytes) else source.read_bytes())
        except OSError as error:
            raise CommunicatorError(f"could not write {destination}", why=str(error)) from error
        there.chmod(mode)

    async def upload_directory(self, source: Path, destination: str) -> None:
        shutil.copytree(source, destination, dirs_exist_ok=True)

    async def download(self, source: str, destination: Path) -> None:
        try:
            destination.write_bytes(Path(source).read_bytes())
        except OSError as error:
            raise CommunicatorError(f"could not read {source}", why=str(error)) from error

    async def download_directory(self, source: str, destination: Path) -> None:
        shutil.copytree(source, destination, dirs_exist_ok=True)
