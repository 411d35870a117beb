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


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader, self._writer = reader, writer
        self._head = (
            f"POST /ingest HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: "
        ).encode()

    async def post(self, payload: bytes) -> tuple[int, bytes]:
        self._writer.write(b"%s%d\r\n\r\n" % (self._head, len(payload)) + payload)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head[9:12]), await self._reader.readexactly(length)


async def run(url: str, streams: Sequence[Sequence[bytes]], *, rate: float = 0.0) -> Result:
    """Post each list of bodies over a connection of its own, one after another. `rate`: requests a second over
    all connections, 0 = as fast as they go."""
    address = urlsplit(url)
    assert address.port
    result = Result(0.0, 0)
    replies: list[bytes] = []
    interval = len(streams) / rate if rate else 0.0

    async def one(bodies: Sequence[bytes], offset: float) -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=2**20)
        connection = _Connection(reader, writer, address.netloc)
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
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(one(bodies, i * interval / len(streams)) for i, bodies in enumerate(streams)))
    result.seconds = time.perf_counter() - started
    result.requests = sum(map(len, streams))
    for reply in replies:
        answer = msgspec.json.decode(reply)
        result.accepted += answer.get("accepted", 0)
    return result
