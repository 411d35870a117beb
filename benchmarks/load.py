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
    """One request in flight; the reply is cut out of the stream by its content-length, nothing else is read."""

    def __init__(self, host: str) -> None:
        self._head = (
            f"POST /ingest HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: "
        ).encode()
        self._buffer = b""
        self._reply: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self._buffer.find(b"content-length: ") + 16
        length = int(self._buffer[at : self._buffer.find(b"\r\n", at)])
        if len(self._buffer) >= end + 4 + length and self._reply is not None:
            reply, self._reply = self._reply, None
            status, body = int(self._buffer[9:12]), self._buffer[end + 4 : end + 4 + length]
            self._buffer = b""
            reply.set_result((status, body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(exc or ConnectionError("the server closed the connection"))

    def post(self, payload: bytes) -> asyncio.Future[tuple[int, bytes]]:
        assert self._transport is not None
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(b"%s%d\r\n\r\n%s" % (self._head, len(payload), payload))
        return self._reply

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def run(url: str, streams: Sequence[Sequence[bytes]], *, rate: float = 0.0) -> Result:
    """Post each list of bodies over a connection of its own, one after another. `rate`: requests a second over
    all connections, 0 = as fast as they go."""
    address = urlsplit(url)
    result = Result(0.0, 0)
    replies: list[bytes] = []
    interval = len(streams) / rate if rate else 0.0
    loop = asyncio.get_running_loop()

    async def one(bodies: Sequence[bytes], offset: float) -> None:
        _, connection = await loop.create_connection(
            lambda: _Connection(address.netloc), address.hostname, address.port
        )
        due = started + offset
        for payload in bodies:
            if interval:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                due += interval
            sent = time.perf_counter()
            status, reply = await connection.post(payload)
            result.latencies_ms.append((time.perf_counter() - sent) * 1000)
            result.statuses[status] = result.statuses.get(status, 0) + 1
            replies.append(reply)
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(one(bodies, i * interval / len(streams)) for i, bodies in enumerate(streams)))
    result.seconds = time.perf_counter() - started
    result.requests = sum(map(len, streams))
    result.accepted = sum(msgspec.json.decode(reply).get("accepted", 0) for reply in replies)
    return result
