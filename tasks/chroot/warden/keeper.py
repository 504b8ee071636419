"""The keeper: takes requests from the builder, starts a child for each, and says how the child ended."""

# System calls as they are: pathlib would only stand between.
# ruff: noqa: PTH123

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from tasks.chroot.warden import kernel
from tasks.chroot.warden.commands import supervise
from tasks.chroot.warden.inside import Home
from tasks.chroot.warden.mount_point import MountPoint
from tasks.chroot.warden.operations import OPERATIONS
from tasks.chroot.warden.processes import command_line, descendants, end_tree

LONGEST_REQUEST = 1 << 20
_MOST_DESCRIPTORS = 4


class Keeper:
    """Serves one builder over one line until the line or the builder ends; then ends everything.

    Args:
        line: A SOCK_SEQPACKET socket. A request is one message: JSON, with file descriptors beside it.
        mount_path: Where the root file system will be mounted: makes a jail. None serves the host itself.
    """

    def __init__(self, line: socket.socket, mount_path: str | None) -> None:
        self._line = line
        self._children: dict[int, int] = {}
        self._home: Home | None = None
        self._init = 0
        self._mount_point: MountPoint | None = None
        self._woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._end())
        if mount_path is not None:
            self._mount_point = MountPoint(mount_path)
            try:
                self._mount_point.take()
                self._found_jail(mount_path)
            except OSError:
                self._mount_point.release()
                raise

    def _found_jail(self, root: str) -> None:
        kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWPID)
        # Nothing goes from here to the host. What the host unmounts is unmounted here too, since a copy that stays
        # would keep the host's device busy (mount_namespaces(7), MS_SLAVE).
        kernel.mount("none", "/", "none", kernel.MS_REC | kernel.MS_SLAVE)
        ready, tell = os.pipe2(os.O_CLOEXEC)
        keeper = os.pidfd_open(os.getpid()) if hasattr(os, "pidfd_open") else -1
        self._init = os.fork()
        if self._init == 0:
            os.close(ready)
            try:
                _be_init(root, tell, keeper)
            finally:
                os._exit(1)
        os.close(tell)
        if keeper >= 0:
            os.close(keeper)
        if os.read(ready, 1) != b"y":
            raise OSError(errno.ECHILD, "the jail's first process did not start", root)
        os.close(ready)
        self._home = Home(root, f"/proc/{self._init}/ns/ipc", f"/proc/{self._init}/ns/uts")

    def serve(self) -> NoReturn:
        """Serve until the line ends."""
        self._say({"id": 0, "value": self._init})
        waits = select.poll()
        waits.register(self._line, select.POLLIN)
        waits.register(self._woken, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in waits.poll()}
            if self._woken in ready:
                with suppress(BlockingIOError):
                    os.read(self._woken, 4096)
                self._reap()
            if self._line.fileno() in ready:
                self._receive()

    def _receive(self) -> None:
        message, descriptors, _, _ = socket.recv_fds(
            self._line, LONGEST_REQUEST, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
        if not message:
            self._end()
        request = json.loads(message.decode(errors="surrogateescape"))
        number, operation, arguments = request["id"], request["op"], request["args"]
        if operation == "kill":
            for child, asked in list(self._children.items()):
                if asked == arguments["id"]:
                    end_tree(child)
        elif operation == "strays":
            self._say({"id": number, "value": self._strays(arguments["signal"])})
        else:
            child = os.fork()
            if child == 0:
                try:
                    self._be_child(operation, descriptors, arguments)
                finally:
                    os._exit(1)
            self._children[child] = number
        for descriptor in descriptors:
            os.close(descriptor)

    def _be_child(self, operation: str, descriptors: list[int], arguments: dict[str, Any]) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._line.close()
        os.close(self._woken)
        result, *others = descriptors
        work: Callable[..., object]
        try:
            if operation == "run":
                inside = arguments.pop("inside")
                supervise(self._home if inside else None, result, others[0], **arguments)
            work = OPERATIONS[operation]
            answer: dict[str, object] = {"value": work(self._home, *others, **arguments)}
        except OSError as error:
            answer = {"why": error.strerror or str(error), "path": error.filename, "errno": error.errno}
        except Exception:
            answer = {"why": traceback.format_exc(), "path": None, "errno": None}
        with open(result, "w", encoding="utf-8", errors="surrogateescape") as told:
            json.dump(answer, told)
        os._exit(0)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                process, status = os.waitpid(-1, os.WNOHANG)
                if process == 0:
                    return
                if process == self._init:
                    # The kernel has ended all that was in its namespace (pid_namespaces(7)).
                    self._init = 0
                    self._end()
                number = self._children.pop(process, None)
                if number is not None:
                    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1
                    self._say({"id": number, "code": code})

    def _strays(self, number: int) -> list[tuple[int, str]]:
        ours = {self._init, *self._children}
        found = [process for process in descendants(os.getpid()) if process not in ours]
        strays = [(process, command_line(process)) for process in found]
        if number:
            for process in found:
                with suppress(ProcessLookupError):
                    os.kill(process, number)
        return strays

    def _say(self, message: dict[str, object]) -> None:
        # A builder that is gone is noticed where requests are received.
        with suppress(OSError):
            self._line.send(json.dumps(message).encode(errors="surrogateescape"))

    def _end(self) -> NoReturn:
        # A builder's end reaches us twice, as a broken line and as a signal: the second must not cut the first short.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            if self._init:
                self._end_init()
            elif self._home is None:
                for child in list(self._children):
                    end_tree(child)
            if self._home is not None:
                # Nobody is left who could use it, so this is a real unmount. Else the directory would be in use.
                with suppress(OSError):
                    for _ in range(16):
                        kernel.unmount(self._home.root, kernel.MNT_DETACH)
            if self._mount_point is not None:
                self._mount_point.release()
        finally:
            os._exit(0)

    def _end_init(self) -> None:
        # Gone already, if the signal came just after it was buried.
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._init, signal.SIGKILL)
            # It ends when all in its namespace are buried, and burying its own children is up to the keeper.
            while os.waitpid(-1, 0)[0] != self._init:
                pass


def _be_init(root: str, tell: int, keeper: int) -> NoReturn:
    """Be the jail's first process: hold its namespaces, bury orphans, and end with the keeper.

    Its own root is an empty file system, so that `/proc/1/root` is another root than the image's, by which programs
    know that they are in a chroot, and yet leads to nothing of the host's.
    """
    signal.set_wakeup_fd(-1)
    # From outside only SIGKILL and SIGSTOP reach a namespace's first process without a handler; from inside nothing.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    # The keeper has no number in this namespace.
    kernel.signal_at_parents_end(signal.SIGKILL, 0)
    if keeper >= 0 and select.select([keeper], [], [], 0)[0]:
        os._exit(1)
    os.setsid()
    kernel.unshare(kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS)
    kernel.mount("empty", root, "tmpfs", kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV, "size=4k,mode=0555")
    os.chdir(root)
    kernel.unmount(root, kernel.MNT_DETACH)
    os.chroot(".")
    os.write(tell, b"y")
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    # Ignored, a child's end leaves no zombie (wait(2)).
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        signal.pause()
