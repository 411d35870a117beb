"""uvicorn's HTTP protocol with a bound on what arrives while no request is being served.

uvicorn by itself waits for ever for the first byte, for whatever follows a stray line between two requests or
an answer that came before its body, and takes headers of any size. Here a clock runs while a connection waits
for whole headers, and from the first byte that arrives after an answer; only whole headers stop it, and after
HEADERS_TIMEOUT_S the connection is closed. More than HEADERS_BYTES_MAX of anything that is neither body nor
whole headers (trailers and chunk extensions, which the parser collects even when nobody reads the body) closes
it, too. A body that is being read has bounds of its own (body.py).

Two facts for the application, in the scope: WHOLE, the body arrived together with its headers, as most do, and
needs no clock; CROWDED, there are more connections than `limit_concurrency`
(uvicorn by itself would answer with plain text).

What arrives whole for the Quick of the application (quick.py) is held until it is whole, and offered to it first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from apps.backend.hygiene import rendered
from apps.backend.quick import QUICK, Quick

HEADERS_TIMEOUT_S = 15.0
HEADERS_BYTES_MAX = 64 * 1024
WHOLE = "tracehub.whole"
CROWDED = "tracehub.crowded"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Joining:
    """A transport on which the head of an answer waits for its body, at most until the loop's next step.

    uvicorn writes the two one by one and uvloop sends each at once: for one small answer two calls of the kernel
    here and two awakenings of the client.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self._later: asyncio.Handle | None = None
        self.is_closing = transport.is_closing  # asked for each piece that arrives

    def write(self, data: bytes) -> None:
        """Send, or hold the head of an answer."""
        if self._head:
            self._send_head(data)
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._later = self._loop.call_soon(self._send_head)
        else:
            self._transport.write(data)

    def write_whole(self, data: bytes) -> None:
        """Send an answer that is whole."""
        if self._head:
            self._send_head()
        self._transport.write(data)

    def close(self) -> None:
        """Close, after what is held has been sent."""
        if self._head:
            self._send_head()
        self._transport.close()

    def _send_head(self, body: bytes = b"") -> None:
        data, self._head = self._head + body, b""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Nobody:
    def set(self) -> None:
        """Nobody waits for a message here."""


class Underway:
    """To uvicorn a request like any other: the next one queues behind it, and a server that stops waits for it."""

    message_event = _Nobody()

    def __init__(self, send: Callable[[bool, int, bytes, bytes], None], *, keep_alive: bool) -> None:
        self._send = send
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_complete = False

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        """See Answer. Nothing is sent to a client that has gone."""
        self.response_complete = True
        if not self.disconnected:
            self._send(self.keep_alive, status, head, body)


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    _deadline: asyncio.TimerHandle | None = None
    _bare_bytes = 0  # since the last piece of body or the end of the last request
    _in_headers = True
    _rendered: tuple[Any, bytes] = (None, b"")
    _held: bytearray | None = None  # the body, as far as it is here, of what the Quick may answer

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._quick: Quick | None = self.app_state.get(QUICK)
        self._connections_max, self.limit_concurrency = self.limit_concurrency, None

    def connection_made(self, transport: Any) -> None:
        """The clock for the first request starts."""
        super().connection_made(Joining(transport, self.loop))  # type: ignore[arg-type]
        self._start_clock()

    def data_received(self, data: bytes) -> None:
        """Count what is not body."""
        self._bare_bytes += len(data)
        super().data_received(data)
        if self._held is not None:
            if self.transport.is_closing():  # it was no HTTP in the end
                return
            self._begin_at_length(self._held)  # there is more to come, and that has a clock
        if self._bare_bytes > HEADERS_BYTES_MAX and not self.transport.is_closing():
            if self._in_headers:
                self.transport.write(_TOO_LARGE)
            self.transport.close()
        if self._deadline is None and (self._in_headers or self._is_idle()):
            self._start_clock()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_headers = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Headers are whole; what follows is body."""
        self._in_headers = False
        self._stop_clock()
        if self._connections_max is not None and len(self.connections) > self._connections_max:
            self.scope[CROWDED] = True  # type: ignore[literal-required]  # ASGI leaves such keys to us
        elif self._quick is not None and self.url == self._quick.target and self._is_ordinary():
            self._held = bytearray()
            return
        super().on_headers_complete()

    def _is_ordinary(self) -> bool:
        return (
            self.parser.get_method() == b"POST"
            and self._is_idle()
            and not self.expect_100_continue
            and not self.flow.write_paused
            and not self.parser.should_upgrade()
            and self.parser.get_http_version() == "1.1"
        )

    def _begin_at_length(self, body: bytearray) -> None:
        """The way of all others."""
        self._held = None
        super().on_headers_complete()
        if body:
            super().on_body(bytes(body))

    def _answered_quickly(self, body: bytearray) -> bool:
        assert self._quick is not None
        underway = Underway(self._send_whole, keep_alive=self.parser.should_keep_alive())
        self.scope["method"] = "POST"
        self.scope["query_string"] = b""
        if not self._quick(self.scope, bytes(body), underway.answer):  # type: ignore[arg-type]
            return False
        self._held = None
        self.cycle = underway  # type: ignore[assignment]
        return True

    def _send_whole(self, keep_alive: bool, status: int, head: bytes, body: bytes) -> None:
        if self.transport.is_closing():
            return
        close = b"" if keep_alive else b"connection: close\r\n"
        end = b"content-length: %d\r\n%s\r\n%s" % (len(body), close, body)
        whole = b"%s%s%s%s" % (STATUS_LINE[status], self._date(), head, end)
        self.transport.write_whole(whole)  # type: ignore[attr-defined]
        if not keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _date(self) -> bytes:
        """What uvicorn adds to its own answers; it makes a new list each second."""
        headers = self.server_state.default_headers
        if headers is not BoundedProtocol._rendered[0]:
            BoundedProtocol._rendered = headers, rendered(headers)
        return BoundedProtocol._rendered[1]

    def on_body(self, body: bytes) -> None:
        """A piece of body has arrived."""
        self._bare_bytes = 0
        if self._held is not None:
            self._held += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request has ended."""
        self._bare_bytes = 0
        self.scope[WHOLE] = True  # type: ignore[literal-required]
        if self._held is not None:
            if self._answered_quickly(self._held):
                return
            self._begin_at_length(self._held)
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to watch any more."""
        self._stop_clock()
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        """Nothing is being served: what arrives is no body that anybody reads."""
        return self.cycle is None or self.cycle.response_complete

    def _start_clock(self) -> None:
        self._deadline = self.loop.call_later(HEADERS_TIMEOUT_S, self._too_slow)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()
