"""Tell everybody that a worker died and that it is back (ingest.md §7), over the queue's Redis.

A message is a msgpack map `{"event", "data"}` on `keys.LIVE_CHANNEL`. The supervisor sees a death at once;
a worker is back when its heartbeat key holds another incarnation than before. Messages keep their order, and
wait up to `KEEP_S` while Redis is away; nothing here ever holds up the supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tracehub.protocol.messages import LiveMessage, encode
from tracehub.protocol.times import iso
from tracehub.runtime.clock import monotonic_s, now_ms
from tracehub.storage.redis import keys

POLL_S = 0.1
RETRY_S = 0.25
KEEP_S = 30.0
TIMEOUT_S = 2.0
PENDING_MAX = 1_000


class Announcer:
    """One per supervisor; `run` is its task."""

    def __init__(self, redis_url: str) -> None:
        self._redis: Redis = Redis.from_url(
            redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
        self._outbox: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(PENDING_MAX)
        self._incarnations: dict[str, bytes] = {}
        self._down_since: dict[str, float] = {}

    def crashed(self, worker: str, recovers_in_ms: int) -> None:
        """A worker process ended, and will be started again in so many milliseconds."""
        self._down_since.setdefault(worker, monotonic_s())
        self._put("worker:crashed", {"worker": worker, "at": iso(now_ms()), "recoversInMs": recovers_in_ms})

    async def run(self, workers: list[str]) -> None:
        """Send what is pending and watch the heartbeats, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send())
            group.create_task(self._watch(workers))

    async def close(self) -> None:
        await self._redis.aclose()

    def _put(self, event: str, data: dict[str, Any]) -> None:
        body = encode(LiveMessage(event, data))
        with contextlib.suppress(asyncio.QueueFull):
            self._outbox.put_nowait((monotonic_s() + KEEP_S, body))

    async def _send(self) -> None:
        while True:
            until, body = await self._outbox.get()
            while monotonic_s() < until:
                try:
                    await self._redis.publish(keys.LIVE_CHANNEL, body)
                    break
                except (RedisError, OSError):
                    await asyncio.sleep(RETRY_S)

    async def _watch(self, workers: list[str]) -> None:
        if not workers:
            return
        names = [keys.heartbeat(worker) for worker in workers]
        while True:
            try:
                beats = await self._redis.mget(names)
            except (RedisError, OSError):
                beats = [None] * len(names)
            for worker, incarnation in zip(workers, beats, strict=True):
                if incarnation is not None:
                    self._beats(worker, incarnation)
            await asyncio.sleep(POLL_S)

    def _beats(self, worker: str, incarnation: bytes) -> None:
        """The key of a dead worker stays for its lease: only a new incarnation is a recovery."""
        if self._incarnations.get(worker) == incarnation:
            return
        self._incarnations[worker] = incarnation
        since = self._down_since.pop(worker, None)
        if since is not None:
            down_ms = round((monotonic_s() - since) * 1000)
            self._put("worker:recovered", {"worker": worker, "at": iso(now_ms()), "downMs": down_ms})
