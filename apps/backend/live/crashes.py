"""Workers that stop beating: `worker:crashed` when nobody supervises them, `worker:recovered` when they are
back (ingest.md §7). A supervised worker's supervisor sees it first and tells it; then nothing is told twice.
Every backend watches; a key in Redis lets one of them speak.
"""

from __future__ import annotations

import asyncio

from tracehub.protocol.errors import TraceHubError
from tracehub.protocol.messages import LiveMessage
from tracehub.protocol.times import iso
from tracehub.runtime.clock import Clock
from tracehub.storage.redis.queue import RedisQueue
from tracehub.storage.redis.workers import Workers

LOOK_S = 0.5
MISSED_MS = 3_500
FORGET_MS = 3_600_000


class CrashWatch:
    """Looks at heartbeats twice a second."""

    def __init__(self, workers: Workers, queue: RedisQueue, clock: Clock) -> None:
        self._workers = workers
        self._queue = queue
        self._clock = clock
        self._down_since: dict[str, int] = {}
        self._told_by_others: set[str] = set()

    def heard(self, live: LiveMessage) -> None:
        """A message of the live bus: somebody else saw it first."""
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
        now = self._clock()
        for record in await self._workers.records():
            worker, at = record.id, record.at
            if now - at > FORGET_MS:
                await self._workers.goodbye(worker)
            elif now - at > MISSED_MS:
                if worker not in self._down_since and worker not in self._told_by_others:
                    self._down_since[worker] = at
                    if await self._workers.may_speak("crashed", worker, at):
                        recovers = record.restart_ms if record.supervised else None
                        await self._queue.publish(
                            "worker:crashed", {"worker": worker, "at": iso(now), "recoversInMs": recovers}
                        )
            elif worker in self._down_since:
                down_ms = at - self._down_since.pop(worker)
                if await self._workers.may_speak("recovered", worker, at // 10_000):
                    await self._queue.publish(
                        "worker:recovered", {"worker": worker, "at": iso(now), "downMs": down_ms}
                    )
