"""`copy_files`: the host's files that stand in for the image's own while it is provisioned."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Any

from blocks.errors import CommunicatorError
from tasks.chroot.jail import Jail
from tasks.chroot.line import OperationFailed
from tasks.run import Logger

DEFAULT_FILES = ("/etc/resolv.conf",)


class CopiedFiles:
    """Files copied into a jail, and how to put the image's own back.

    Args:
        jail: The jail, its root mounted.
        logger: Is told what a provisioner changed.
    """

    def __init__(self, jail: Jail, logger: Logger) -> None:
        self._jail = jail
        self._logger = logger
        self._copied: list[dict[str, Any]] = []

    async def copy(self, paths: Iterable[str] = DEFAULT_FILES) -> None:
        """Copy files of the host to the same paths inside, with their modes.

        The image's own of that name is kept aside as `.NAME.image-bakery`, in the same directory. Missing directories
        are made for the time being.

        Raises:
            CommunicatorError: the host has no such file, or the image has a directory of that name.
        """
        for path in paths:
            if not posixpath.isabs(path) or path.endswith("/"):
                raise CommunicatorError("cannot copy a file without an absolute path", resource=path)
            copied = await self._do(f"copy {path}", "copy_in", path=path)
            self._copied.append(copied)

    async def put_back(self) -> None:
        """Make each path what it was: the very same file or link, or nothing.

        A file that a provisioner changed, replaced or removed stays as the provisioner left it. Repeatable.

        Raises:
            CommunicatorError: the image's file system refused.
        """
        while self._copied:
            copied = self._copied[-1]
            if not await self._do(f"put back {copied['path']}", "put_back", **copied):
                self._logger.info("A provisioner changed %s: its version stays in the image", copied["path"])
            self._copied.pop()

    async def _do(self, what: str, operation: str, **arguments: object) -> Any:
        try:
            return await self._jail.line.call(operation, **arguments)
        except OperationFailed as error:
            raise CommunicatorError(
                f"could not {what}",
                resource=str(self._jail),
                why=str(error),
                hint="Does this host have it, and is the image's file system writable? See copy_files.",
            ) from None
