"""The connection plugin `bakery`: Ansible asks the build that started it, over a Unix socket, one request a connection.

A request is a line of JSON (`tasks.provisioners.ansible_requests` answers it), then as many bytes as its `stdin` says.
The answer is a line of JSON, then as many bytes of standard output and of standard error as its `stdout` and `stderr`
say; or its `error`. Hanging up cancels what was asked.

This file runs in Ansible's own Python, which need not be ours: it imports Ansible and the standard library alone.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, cast

from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

DOCUMENTATION = """
    name: bakery
    short_description: the connection of the Image Bakery build that runs this playbook
    description:
        - Runs commands and copies files over the connection that the build already has.
    options:
        socket:
            description: Where the build listens.
            type: str
            required: true
            env: [{name: BAKERY_ANSIBLE_SOCKET}]
        remote_user:
            description: Who commands run as; set by the build.
            type: str
            vars: [{name: ansible_user}]
        pipelining:
            description: Whether modules go in by standard input, and not by a file that is put there first.
            type: boolean
            default: true
            env: [{name: ANSIBLE_PIPELINING}]
            ini: [{section: connection, key: pipelining}, {section: defaults, key: pipelining}]
            vars: [{name: ansible_pipelining}]
"""

display = Display()


class Connection(ConnectionBase):  # type: ignore[misc]
    """One host's connection. Nothing is kept open between requests."""

    transport = "bakery"
    has_tty = False

    @property
    def has_pipelining(self) -> bool:
        """Not together with a password: one that nobody asked for would be taken for the module's first line."""
        return self.become is None or not self.become.expect_prompt()

    @has_pipelining.setter
    def has_pipelining(self, value: bool) -> None:
        pass

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def close(self) -> None:
        """Nothing to do: the connection is the build's."""
        self._connected = False

    def reset(self) -> None:
        """Nothing that would help: the connection is the build's."""
        display.warning("The build's connection is kept as it is: a playbook cannot reset it.")

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a command; see `ConnectionBase.exec_command`."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        display.vvv(f"EXEC {to_text(cmd)}", host=self._play_context.remote_addr)
        stdin = in_data or b""
        become = self.become if sudoable else None
        prompt = become.prompt if become is not None and become.expect_prompt() else None
        if become is not None and prompt is not None:
            password = become.get_option("become_pass", playcontext=self._play_context)
            stdin = to_bytes(password) + b"\n" + stdin
        head, body = self._ask({"do": "exec", "command": to_text(cmd), "stdin": len(stdin)}, stdin)
        stdout, stderr = body[: head["stdout"]], body[head["stdout"] :]
        if become is not None and head["code"] != 0:
            if become.check_incorrect_password(stderr) or become.check_incorrect_password(stdout):
                raise AnsibleError(f"Incorrect {become.name} password")
            if become.check_missing_password(stderr) or become.check_missing_password(stdout):
                raise AnsibleError(f"Missing {become.name} password")
        if prompt:
            stderr = stderr.replace(to_bytes(prompt), b"")
        return head["code"], stdout, stderr

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file there."""
        super().put_file(in_path, out_path)
        here = Path(to_text(in_path)).absolute()
        display.vvv(f"PUT {here} TO {to_text(out_path)}", host=self._play_context.remote_addr)
        if not here.exists():
            raise AnsibleFileNotFound(f"there is no {here}")
        self._ask({"do": "put", "here": str(here), "there": to_text(out_path)})

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file from there."""
        super().fetch_file(in_path, out_path)
        here = Path(to_text(out_path)).absolute()
        display.vvv(f"FETCH {to_text(in_path)} TO {here}", host=self._play_context.remote_addr)
        self._ask({"do": "fetch", "there": to_text(in_path), "here": str(here)})

    def _ask(self, request: dict[str, Any], stdin: bytes = b"") -> tuple[dict[str, Any], bytes]:
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(self.get_option("socket"))
                line.sendall(json.dumps(request).encode() + b"\n" + stdin)
                with line.makefile("rb") as answer:
                    head = cast("dict[str, Any]", json.loads(answer.readline()))
                    length = head.get("stdout", 0) + head.get("stderr", 0)
                    body = answer.read(length)
        except (OSError, ValueError) as error:
            raise AnsibleConnectionFailure(f"the build that runs this playbook does not answer: {error}") from None
        if len(body) != length:
            raise AnsibleConnectionFailure("the build that runs this playbook hung up in the middle of an answer")
        if "error" in head:
            raise (AnsibleConnectionFailure if head["lost"] else AnsibleError)(head["error"])
        return head, body
