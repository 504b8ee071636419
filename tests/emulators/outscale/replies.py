"""Looks at everything that a region's API answers, whoever asked."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.emulators.outscale.api_document import ApiDocument


class Checked:
    """An API whose replies are held against the document. What is wrong with them is collected."""

    def __init__(self, app: ASGIApp, document: ApiDocument, wrong: list[str]) -> None:
        self._app = app
        self._document = document
        self._wrong = wrong

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        start: Message = {}

        async def look(message: Message) -> None:
            nonlocal body, start
            if message["type"] == "http.response.start":
                start = message
            body += message.get("body", b"")
            await send(message)

        await self._app(scope, receive, look)
        if start:
            headers = {name.decode(): value.decode() for name, value in start["headers"]}
            try:
                self._document.check_reply(scope["path"], start["status"], headers, body)
            except Exception as error:
                self._wrong.append(f"{scope['path']} {start['status']} {body.decode()}: {error}")
