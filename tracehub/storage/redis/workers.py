"""Who works: heartbeats of worker processes, as every process sees them.

`worker-alive:<id>` lives for ALIVE_MS and holds the incarnation, so its absence means dead or stopped; the
hash `workers` keeps the last record of each, so that somebody can be missed.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from tracehub.storage.redis import keys
from tracehub.storage.redis.failures import translated

BEAT_S = 1.0
ALIVE_MS = 3_000  # three beats missed


class WorkerRecord(msgspec.Struct, frozen=True):
    """What a worker says of itself. `at`: Unix ms of its last beat."""

    id: str
    incarnation: str
    at: int
    jobs_done: int = 0
    status: str = "idle"
    supervised: bool = False
    restart_ms: int = 0


class Workers:
    """All calls raise Transient when Redis is out of reach."""

    def __init__(self, redis: Redis) -> None:
        self._redis = cast(Any, redis)  # the driver types every answer as "awaitable or not"

    async def beat(self, record: WorkerRecord) -> None:
        """One sign of life."""
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(keys.heartbeat(record.id), record.incarnation, px=ALIVE_MS)
                pipe.hset(keys.WORKERS, record.id, msgspec.json.encode(record))
                await pipe.execute()

    async def goodbye(self, worker_id: str) -> None:
        """An orderly end is not a crash: nobody shall miss this one."""
        with translated():
            await self._redis.hdel(keys.WORKERS, worker_id)
            await self._redis.delete(keys.heartbeat(worker_id))

    async def is_alive(self, worker_id: str, incarnation: str) -> bool:
        """Whether that very incarnation still beats."""
        with translated():
            value = await self._redis.get(keys.heartbeat(worker_id))
        return value is not None and bytes(value).decode() == incarnation

    async def records(self) -> list[WorkerRecord]:
        """Everybody who did not say goodbye, by id."""
        with translated():
            values = await self._redis.hvals(keys.WORKERS)
        return sorted((msgspec.json.decode(v, type=WorkerRecord) for v in values), key=lambda w: w.id)

    async def beating(self) -> list[WorkerRecord]:
        """Those of whom a beat was heard within ALIVE_MS."""
        records = await self.records()
        if not records:
            return []
        with translated():
            values = await self._redis.mget([keys.heartbeat(w.id) for w in records])
        return [w for w, value in zip(records, values, strict=True) if value is not None]

    async def crash(self, worker_id: str) -> None:
        """Order a worker to end at once (the fault)."""
        with translated():
            await self._redis.publish(keys.WORKER_CONTROL_CHANNEL, worker_id)

    async def may_speak(self, event: str, worker_id: str, moment: int) -> bool:
        """True for one of all who saw the same event."""
        with translated():
            key = keys.told(worker_id, event, moment)
            return bool(await self._redis.set(key, b"1", nx=True, px=60_000))
