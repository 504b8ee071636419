"""SSH to a machine under test, and waits with deadlines."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import paramiko

from emulators.machines import CloudInit, MachineSpec

# While a guest boots, paramiko logs a traceback for every connection that is refused.
logging.getLogger("paramiko.transport").setLevel(logging.CRITICAL)

GIB = 1024**3


@dataclass(frozen=True)
class Key:
    private: paramiko.PKey
    public: str

    @classmethod
    def make(cls) -> Key:
        private = paramiko.ECDSAKey.generate()
        return cls(private, f"{private.get_name()} {private.get_base64()} test")


@dataclass(frozen=True)
class Address:
    """A loopback address and a port that nobody else uses."""

    host: str
    port: int

    @classmethod
    def free(cls) -> Address:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            number = probe.getsockname()[1]
        return cls(f"127.77.{number >> 8}.{max(1, number & 0xFF)}", number)


@dataclass(frozen=True)
class Guest:
    """How to make one machine and reach it."""

    directory: Path
    key: Key = field(default_factory=Key.make)
    address: Address = field(default_factory=Address.free)

    def spec(self, **behaviour: object) -> MachineSpec:
        return MachineSpec(
            id="one",
            memory=256 * 1024**2,
            cpus=1,
            disks=(self.directory / "disk.raw",),
            cloud_init=CloudInit("iid-1", "oven", (self.key.public,)),
            address=self.address.host,
            workdir=self.directory / "work",
            behaviour=behaviour,
        )

    async def run(self, command: str, *, user: str = "root", deadline: float = 90) -> str:
        return await asyncio.to_thread(self._run, command, user, deadline)

    async def until_listening(self, deadline: float = 20) -> None:
        """Wait until a connection is taken."""

        async def taken() -> bool:
            try:
                _, writer = await asyncio.open_connection(self.address.host, self.address.port)
            except OSError:
                return False
            writer.transport.abort()
            return True

        async with asyncio.timeout(deadline):
            while not await taken():
                await asyncio.sleep(0.01)

    def connect(self, user: str = "root") -> paramiko.SSHClient:
        """Connect once."""
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            self.address.host,
            self.address.port,
            user,
            pkey=self.key.private,
            timeout=5,
            banner_timeout=30,
            auth_timeout=30,
            look_for_keys=False,
            allow_agent=False,
        )
        return client

    def host_key(self) -> str:
        """The host key that a new connection is shown."""
        with socket.create_connection((self.address.host, self.address.port), 10) as sock:
            transport = paramiko.Transport(sock)
            try:
                transport.start_client(timeout=30)
                return str(transport.get_remote_server_key().get_base64())
            finally:
                transport.close()

    async def rebooted(self, boot_id: str, deadline: float = 120) -> None:
        """Wait until the guest answers with another boot id."""
        async with asyncio.timeout(deadline):
            while await self.run("cat /proc/sys/kernel/random/boot_id") in ("", boot_id):
                await asyncio.sleep(0.05)

    def _run(self, command: str, user: str, deadline: float) -> str:
        end = time.monotonic() + deadline
        while True:
            client: paramiko.SSHClient | None = None
            try:
                client = self.connect(user)
                _, output, _ = client.exec_command(command, timeout=30)
                return output.read().decode()
            except paramiko.AuthenticationException as error:
                # A guest that goes down in the middle of a log-in has refused nobody.
                if "EOF" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.05)
            except (OSError, EOFError, paramiko.SSHException):
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
            finally:
                if client is not None:
                    client.close()


async def until(condition: Callable[[], bool], deadline: float = 20) -> None:
    async with asyncio.timeout(deadline):
        while not condition():
            await asyncio.sleep(0.02)


def processes(word: str) -> list[int]:
    """Processes whose command line holds the word."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (directory / "cmdline").read_bytes():
                found.append(int(directory.name))
        except OSError:
            continue
    return found
