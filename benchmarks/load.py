"""The load generator: raw HTTP/1.1 over asyncio, bodies built before the clock starts.

A client library would cost more than the server. Every connection keeps one request in flight and reads the
whole reply; the reply is parsed only for its counts, after the run.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast
from urllib.parse import urlsplit

import msgspec

WORDS = ("order", "payment", "session", "cache", "queue", "index", "upload", "token", "invoice", "report")
PATHS = ("/api/orders", "/api/pay", "/api/login", "/api/search", "/api/cart", "/healthz", "/api/users")


def entries(first: int, count: int, seed: int, now_ms: int) -> list[dict[str, object]]:
    """Believable entries: about 100 bytes of message, trace and request ids shared by a few of them."""
    rng = random.Random(seed)
    made: list[dict[str, object]] = []
    trace = request = ""
    for i in range(count):
        if i % 5 == 0:
            trace = f"{rng.getrandbits(128):032x}"
            request = f"req-{rng.getrandbits(64):016x}"
        level = rng.choices(("info", "debug", "warn", "error"), (70, 15, 10, 5))[0]
        entry: dict[str, object] = {
            "seq": first + i,
            "level": level,
            "message": f"{rng.choice(PATHS)} {rng.choice(WORDS)} {rng.randrange(10**6)} took {rng.randrange(900)} ms "
            f"for customer {rng.randrange(10**7)} in shard {rng.randrange(64)} ({rng.choice(WORDS)})",
            "ts": now_ms + i,
            "trace_id": trace,
            "request_id": request,
        }
        if i % 4 == 0:
            entry["attrs"] = {"status": rng.choice((200, 201, 404, 500)), "ms": rng.randrange(900)}
        made.append(entry)
    return made


def body(service: str, first: int, count: int, *, seed: int, now_ms: int) -> bytes:
    """One request body."""
    return msgspec.json.encode({"service": service, "batch": entries(first, count, seed, now_ms)})


@dataclass(slots=True)
class Result:
    """What a run saw."""

    seconds: float
    requests: int
    latencies_ms: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    accepted: int = 0

    def quantile(self, q: float) -> float:
        """A latency quantile in ms."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


class _Connection(asyncio.Protocol):
    """Posts bodies one after another. A reply is cut out of the stream by its content-length and kept unread;
    no task, no future and no timer for each request: they would cost as much as a fast server."""

    def __init__(self, host: str, bodies: Sequence[bytes], result: Result, replies: list[bytes]) -> None:
        self._head = (
            f"POST /ingest HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: "
        ).encode()
        self._bodies = iter(bodies)
        self._result = result
        self._replies = replies
        self._buffer = b""
        self._sent = self._due = self._interval = 0.0
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def begin(self, at: float, interval: float) -> None:
        """The first at this perf_counter time, the others `interval` seconds apart (0: as fast as they go)."""
        self._due, self._interval = at, interval
        self._next()

    def _next(self) -> None:
        if self._interval:
            delay = max(0.0, self._due - time.perf_counter())
            self._due += self._interval
            asyncio.get_running_loop().call_later(delay, self._post)
        else:
            self._post()

    def _post(self) -> None:
        payload = next(self._bodies, None)
        if payload is None:
            self.done.set_result(None)
        elif self._transport is not None:
            self._sent = time.perf_counter()
            self._transport.write(b"%s%d\r\n\r\n%s" % (self._head, len(payload), payload))

    def data_received(self, data: bytes) -> None:
        self._buffer = data = self._buffer + data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        at = data.find(b"content-length: ") + 16
        end += int(data[at : data.find(b"\r", at)])
        if len(data) < end:
            return
        result, status = self._result, int(data[9:12])
        result.latencies_ms.append((time.perf_counter() - self._sent) * 1000)
        result.statuses[status] = result.statuses.get(status, 0) + 1
        self._replies.append(data)
        self._buffer = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def run(url: str, streams: Sequence[Sequence[bytes]], *, rate: float = 0.0) -> Result:
    """Post each list of bodies over a connection of its own, one after another. `rate`: requests a second over
    all connections, 0 = as fast as they go."""
    address = urlsplit(url)
    result = Result(0.0, 0)
    replies: list[bytes] = []
    loop = asyncio.get_running_loop()
    connections: list[_Connection] = []
    for bodies in streams:
        made = partial(_Connection, address.netloc, bodies, result, replies)
        _, connection = await loop.create_connection(made, address.hostname, address.port)
        connections.append(connection)
    interval = len(streams) / rate if rate else 0.0
    started = time.perf_counter()
    for i, connection in enumerate(connections):
        connection.begin(started + i * interval / len(streams), interval)
    await asyncio.gather(*(connection.done for connection in connections))
    result.seconds = time.perf_counter() - started
    for connection in connections:
        connection.close()
    result.requests = sum(map(len, streams))
    result.accepted = sum(
        msgspec.json.decode(reply[reply.index(b"\r\n\r\n") + 4 :]).get("accepted", 0) for reply in replies
    )
    return result
