"""OpenSSH's own programs for tests: servers with users of their own, keys, an authority, an agent, and proxies."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from emulators.machines.process import dying_with_us

USER = "baker"
PASSWORD = "correct horse"
# `openssl passwd -6` of it.
_HASH = "$6$bakery$ltJtT7skcZgAPh0D9eRXv86d3NX./w8DOEmsjl4CuOAEnA4doHC7RrgRwy6qHQNkSuF7iya7YUIatFPS2YK.K/"

BEHIND = "guest.behind.internal"
"""A name that only hosts of a test know: who uses it from elsewhere does not get there."""

# Its own users, home, names and processes; the rest of the system is the host's.
_NAMESPACE = """
set -e
work=$1; shift
for file in passwd shadow group hosts sudoers pam.d/sshd pam.d/sudo; do
    [ ! -e "/etc/$file" ] || mount --bind "$work/etc/$file" "/etc/$file"
done
mount --bind "$work/home" /home
mount -t tmpfs tmpfs /run
mkdir -m 755 /run/sshd
mount -t proc proc /proc
exec "$@"
"""
_PAM = "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_permit.so\n"
_SUDO = "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def keygen(path: Path, *options: str, passphrase: str = "", kind: str = "ed25519") -> Path:
    """Make a key pair; the public half is in `.pub`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", path.name, "-f", path, *options],
        check=True,
        capture_output=True,
    )
    return path


def certify(authority: Path, public: Path, *, valid: str = "-1h:+1h", principal: str = USER) -> Path:
    """Have an authority sign a user certificate."""
    subprocess.run(
        ["ssh-keygen", "-q", "-s", authority, "-I", "test", "-n", principal, "-V", valid, public],
        check=True,
        capture_output=True,
    )
    return public.with_name(f"{public.stem}-cert.pub")


class Host:
    """A host of its own: one server program, and whatever is started over it."""

    def __init__(self, work: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("servers with users of their own need root's rights")
        self.work = work
        self.port = free_port()
        self.home = work / "home" / USER
        self._process: subprocess.Popen[bytes] | None = None
        self.home.mkdir(parents=True)
        (self.home / ".ssh").mkdir(mode=0o700)
        for path in (self.home, self.home / ".ssh"):
            os.chown(path, 4242, 4242)
        (work / "etc/pam.d").mkdir(parents=True)
        files = {
            "passwd": f"root:x:0:0::/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
            f"nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n{USER}:x:4242:4242::/home/{USER}:/bin/sh\n",
            "shadow": f"root:*:19000::::::\nsshd:!:19000::::::\n{USER}:{_HASH}:19000::::::\n",
            "group": f"root:x:0:\nnogroup:x:65534:\n{USER}:x:4242:\n",
            "hosts": f"127.0.0.1 localhost {BEHIND} {socket.gethostname()}\n",
            "sudoers": f"Defaults use_pty\n{USER} ALL=(ALL) NOPASSWD: ALL\n",
            "pam.d/sshd": _PAM,
            "pam.d/sudo": _SUDO,
        }
        for name, text in files.items():
            (work / "etc" / name).write_text(text)
        for name in ("shadow", "sudoers"):
            (work / "etc" / name).chmod(0o440)

    @property
    def log(self) -> str:
        return (self.work / "log").read_text(errors="replace")

    def logged(self, text: str, deadline: float = 20) -> bool:
        """Whether the log holds a text, or does within the deadline."""
        end = time.monotonic() + deadline
        while text not in self.log:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def run(self, argv: Sequence[str | Path]) -> None:
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--propagation", "slave", "--"]
        with (self.work / "log").open("ab") as log:
            self._process = subprocess.Popen(
                dying_with_us([*namespaces, "/bin/sh", "-c", _NAMESPACE, "sh", self.work, *argv]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def processes(self) -> list[int]:
        """All of the host's processes, by this host's numbers."""
        return _descendants(self._process.pid) if self._process else []

    def commands(self) -> list[str]:
        """Their command lines."""
        found = []
        for pid in self.processes():
            try:
                found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip())
            except OSError:
                continue
        return found

    def freeze(self) -> None:
        """Have it say nothing any more, while its connections stand."""
        for pid in self.processes():
            os.kill(pid, signal.SIGSTOP)

    def end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            for pid in reversed(_descendants(process.pid)):
                _kill(pid)
            process.kill()
            process.wait(20)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _descendants(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    children = [int(part) for part in text.split()]
    return [*children, *(below for child in children for below in _descendants(child))]


class Sshd(Host):
    """OpenSSH's sshd. It logs what it agrees on and what it is asked for."""

    def __init__(self, work: Path, *config: str, level: str = "DEBUG1") -> None:
        super().__init__(work)
        self.host_key = keygen(work / "host_key")
        self._config = config
        self.extra: tuple[str, ...] = ()
        self._level = level
        self.start()

    def start(self) -> None:
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.host_key}",
            "PidFile none",
            f"LogLevel {self._level}",
            *self.extra,
            *self._config,
            "UsePAM yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
        ]
        if not any(line.startswith("Subsystem") for line in lines):
            lines.append("Subsystem sftp /usr/lib/openssh/sftp-server")
        (self.work / "sshd_config").write_text("\n".join(lines) + "\n")  # of two lines for one option, the first counts
        self.run(["/usr/sbin/sshd", "-D", "-e", "-f", self.work / "sshd_config"])

    def end(self) -> None:
        """End it, and before it the sessions whose clients are gone: they remove their agents' sockets in /tmp."""
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline and any(
            command.startswith("sshd: ") and "[listener]" not in command for command in self.commands()
        ):
            time.sleep(0.01)
        super().end()

    def authorize(self, public: Path, options: str = "") -> None:
        """Let a key in."""
        file = self.home / ".ssh/authorized_keys"
        line = f"{options} {public.read_text()}".lstrip()
        file.write_text((file.read_text() if file.exists() else "") + line)
        os.chown(file, 4242, 4242)


class Socks(Host):
    """microsocks: a SOCKS5 proxy."""

    def __init__(self, work: Path, *, login: bool) -> None:
        program = shutil.which("microsocks") or pytest.skip("microsocks is not installed: tools/packages tests")
        super().__init__(work)
        who = ["-u", "packer", "-P", PASSWORD] if login else []
        self.run([program, "-i", "127.0.0.1", "-p", str(self.port), *who])


class Tinyproxy(Host):
    """tinyproxy: an HTTP proxy."""

    def __init__(self, work: Path, *, login: bool) -> None:
        program = shutil.which("tinyproxy") or pytest.skip("tinyproxy is not installed: tools/packages tests")
        super().__init__(work)
        lines = [f"Port {self.port}", "Listen 127.0.0.1", "Timeout 600", "MaxClients 50", "LogLevel Connect"]
        if login:
            lines.append(f"BasicAuth packer {PASSWORD.replace(' ', '-')}")
        (work / "tinyproxy.conf").write_text("\n".join(lines) + "\n")
        self.run([program, "-d", "-c", work / "tinyproxy.conf"])


@contextmanager
def agent(directory: Path, *keys: Path) -> Iterator[Path]:
    """An ssh-agent with keys in it. Yields its socket."""
    directory.mkdir(exist_ok=True)
    path = directory / "agent"
    process = subprocess.Popen(
        dying_with_us(["ssh-agent", "-D", "-a", path]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 20
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.01)
        for key in keys:
            subprocess.run(
                ["ssh-add", "-q", key], check=True, capture_output=True, env={**os.environ, "SSH_AUTH_SOCK": str(path)}
            )
        yield path
    finally:
        process.kill()
        process.wait(20)
