"""A worker's sign of life, and its ear for the fault crash_worker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tracehub.runtime.clock import monotonic_s, now_ms
from tracehub.storage.redis import keys

log = structlog.get_logger()

BEAT_S = 1.0
ALIVE_MS = 3_000  # three beats missed: dead or stopped
CRASH_WAITS_FOR_WORK_S = 0.5


class Heartbeat:
    """`describe()` gives what the world may know: jobs done, what it does."""

    def __init__(self, redis: Redis, worker_id: str, incarnation: str, describe: Callable[[], dict[str, object]]):
        self._redis = redis
        self._worker_id = worker_id
        self._incarnation = incarnation
        self._describe = describe

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await self.beat()
            await asyncio.sleep(BEAT_S)

    async def beat(self) -> None:
        """One beat; a Redis that is away is no reason to stop working."""
        record = {"id": self._worker_id, "incarnation": self._incarnation, "at": now_ms(), **self._describe()}
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(keys.heartbeat(self._worker_id), self._incarnation, px=ALIVE_MS)
                pipe.hset(keys.WORKERS, self._worker_id, msgspec.json.encode(record))
                await pipe.execute()
        except RedisError as error:
            log.warning("heartbeat.unheard", error=type(error).__name__)

    async def say_goodbye(self) -> None:
        """An orderly end is not a crash: nobody shall miss us."""
        try:
            await self._redis.hdel(keys.WORKERS, self._worker_id)
            await self._redis.delete(keys.heartbeat(self._worker_id))
        except RedisError:
            pass


async def is_alive(redis: Redis, worker_id: str, incarnation: str) -> bool:
    """Whether that very incarnation still beats. Raises RedisError when nobody can tell."""
    value = await redis.get(keys.heartbeat(worker_id))
    return value is not None and bytes(value).decode() == incarnation


async def crash_on_demand(message: bytes, worker_id: str, busy: Callable[[], bool]) -> None:
    """End at once, as kill -9 would, in the middle of work if there is any soon."""
    try:
        order = json.loads(message)
    except ValueError:
        return
    if order.get("action") != "crash" or order.get("worker") != worker_id:
        return
    deadline = monotonic_s() + CRASH_WAITS_FOR_WORK_S
    while not busy() and monotonic_s() < deadline:
        await asyncio.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)
