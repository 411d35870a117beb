"""Workers that stop beating: `worker:crashed` when nobody supervises them, `worker:recovered` when they are
back (ingest.md §7). A supervised worker's supervisor sees it first and tells it; then nothing is told twice.
Every backend watches; a key in Redis lets one of them speak.
"""

from __future__ import annotations

import asyncio
import json

from redis.asyncio import Redis

from tracehub.protocol.errors import TraceHubError
from tracehub.protocol.logentry import iso
from tracehub.protocol.messages import decode_live
from tracehub.runtime.clock import Clock
from tracehub.storage.redis import keys
from tracehub.storage.redis.failures import translated
from tracehub.storage.redis.queue import RedisQueue

LOOK_S = 1.0
MISSED_MS = 4_000
FORGET_MS = 3_600_000
TOLD_TTL_MS = 60_000


class CrashWatch:
    """Looks at heartbeats once a second."""

    def __init__(self, redis: Redis, queue: RedisQueue, clock: Clock) -> None:
        self._redis = redis
        self._queue = queue
        self._clock = clock
        self._down_since: dict[str, int] = {}
        self._told_by_others: set[str] = set()

    def heard(self, message: bytes) -> None:
        """A message of the live bus: somebody else saw it first."""
        live = decode_live(message)
        worker = str(live.data.get("worker", ""))
        if live.event == "worker:crashed":
            self._told_by_others.add(worker)
        elif live.event == "worker:recovered":
            self._told_by_others.discard(worker)
            self._down_since.pop(worker, None)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
            except TraceHubError:
                continue

    async def _look(self) -> None:
        with translated():
            records = [json.loads(raw) for raw in await self._redis.hvals(keys.WORKERS)]
        now = self._clock()
        for record in records:
            worker, at = record["id"], record["at"]
            if now - at > FORGET_MS:
                with translated():
                    await self._redis.hdel(keys.WORKERS, worker)
            elif now - at > MISSED_MS:
                if worker not in self._down_since and worker not in self._told_by_others:
                    self._down_since[worker] = at
                    if await self._may_speak(worker, "crashed", at):
                        recovers = record.get("restartMs") if record.get("supervised") else None
                        await self._queue.publish(
                            "worker:crashed", {"worker": worker, "at": iso(now), "recoversInMs": recovers}
                        )
            elif worker in self._down_since:
                down_ms = at - self._down_since.pop(worker)
                if await self._may_speak(worker, "recovered", at // 10_000):
                    await self._queue.publish(
                        "worker:recovered", {"worker": worker, "at": iso(now), "downMs": down_ms}
                    )

    async def _may_speak(self, worker: str, what: str, moment: int) -> bool:
        with translated():
            key = keys.told(worker, what, moment)
            return bool(await self._redis.set(key, b"1", nx=True, px=TOLD_TTL_MS))
