"""Receivers of alerts: an HTTP server and a mail server that answer as they are told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import msgspec
from aiohttp import web
from aiosmtpd.controller import Controller


@dataclass
class Received:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return msgspec.json.decode(self.body)

    def is_signed_by(self, secret: str) -> bool:
        """By the rule of Standard Webhooks, written down once more."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        text = b".".join(
            (self.headers["webhook-id"].encode(), self.headers["webhook-timestamp"].encode(), self.body)
        )
        wanted = "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
        return hmac.compare_digest(wanted, self.headers["webhook-signature"])


@dataclass
class Receiver:
    """Answers each path with what `answers` has for it, one after the other, the last one for ever; else 200."""

    url: str = ""
    heard: list[Received] = field(default_factory=list)
    answers: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def at(self, path: str) -> list[Received]:
        return [one for one in self.heard if one.path == path]

    def will(self, path: str, *statuses: int, **headers: str) -> str:
        """The URL of a path that answers with these statuses."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[path] = [(status, given) for status in statuses]
        return self.url + path

    async def answer(self, request: web.Request) -> web.Response:
        self.heard.append(Received(request.path, request.headers.copy(), await request.read()))
        if request.path.startswith("/slow"):
            await self.released.wait()
        told = self.answers.get(request.path, [(200, {})])
        status, headers = told.pop(0) if len(told) > 1 else told[0]
        return web.Response(status=status, headers=headers, text="the receiver's own words")


@asynccontextmanager
async def receiving(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver that runs in the test's own loop."""
    receiver = Receiver()
    app = web.Application(client_max_size=2**20)
    app.router.add_route("*", "/{path:.*}", receiver.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    receiver.url = f"http://{host}:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        receiver.released.set()
        await runner.cleanup()


class Mailbox:
    """Mail that came. The first `refusals` of them are turned away."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []
        self.refusals = 0
        self.port = 0

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _: Any, __: Any, envelope: Any, address: str, ___: Any
    ) -> str:
        if address.startswith("nobody@"):
            return "550 nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.refusals:
            self.refusals -= 1
            return "451 come again"
        parsed = message_from_bytes(envelope.content, policy=policy.default)
        self.mails.append((envelope.rcpt_tos, parsed))
        return "250 ok"


@contextmanager
def mail_server(port: int) -> Iterator[Mailbox]:
    """A mail server in a thread of its own."""
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    box.port = port
    try:
        yield box
    finally:
        controller.stop()
