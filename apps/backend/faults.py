"""Fault injection (ingest.md §8): what is on, and doing it. Shared by all backends through Redis.

A fault with a duration is a key with a time to live, so it ends by itself even when every process dies.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis

from tracehub.protocol.errors import Conflict, InvalidField, TraceHubError
from tracehub.protocol.messages import LiveMessage
from tracehub.protocol.times import iso
from tracehub.runtime.clock import Clock
from tracehub.storage.postgres.reading import LedgerReading
from tracehub.storage.redis import keys
from tracehub.storage.redis.failures import translated
from tracehub.storage.redis.queue import RedisQueue
from tracehub.storage.redis.workers import Workers

log = structlog.get_logger()

SECONDS_MAX = 3600
ACK_DELAY_S = 3.0
REFRESH_S = 0.5


@dataclass(frozen=True, slots=True)
class Fault:
    """One of the five: how long it lasts by default (0 = at once), and what it really does."""

    action: str
    seconds: int
    what: str


FAULTS = {
    fault.action: fault
    for fault in (
        Fault(
            "crash_worker", 5, "one worker process ends at once, in the middle of its work, as kill -9 would"
        ),
        Fault("drop_network", 10, "every /ingest is refused with 503 network_dropped"),
        Fault("delay_ack", 30, "every ACK is held back 3 s longer"),
        Fault("flush_queue", 0, "all waiting jobs go, with their bodies and marks; producers make it good"),
        Fault("reset", 0, "all faults end, counters and finished replays are cleared; logs and ledger stay"),
    )
}


class Faults:
    """`active` is what this process knows; it looks every REFRESH_S and whenever `refresh` is called."""

    def __init__(self, redis: Redis, queue: RedisQueue, reading: LedgerReading, clock: Clock) -> None:
        self._redis = redis
        self._workers = Workers(redis)
        self._queue = queue
        self._reading = reading
        self._clock = clock
        self._until_ms: dict[str, int] = {}

    def is_on(self, action: str) -> bool:
        """Whether this fault is on now."""
        return self._until_ms.get(action, 0) > self._clock()

    def active(self) -> list[dict[str, Any]]:
        """What is on, as `sim:control` tells it."""
        now = self._clock()
        return [
            {
                "action": action,
                "active": True,
                "until": iso(until),
                "parameters": {"what": FAULTS[action].what},
            }
            for action, until in sorted(self._until_ms.items())
            if until > now
        ]

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            with contextlib.suppress(TraceHubError):
                await self.refresh()
            await asyncio.sleep(REFRESH_S)

    async def heard(self, live: LiveMessage) -> None:
        """A message of the live bus: another backend may have started a fault."""
        if live.event == "sim:control":
            await self.refresh()

    async def refresh(self) -> None:
        """Read what is on; tell the viewers, once for all backends, of each fault that has ended."""
        before = self._until_ms
        with translated():
            values = await self._redis.mget([keys.fault(action) for action in FAULTS])
        self._until_ms = {
            action: int(value) for action, value in zip(FAULTS, values, strict=True) if value is not None
        }
        for action in before.keys() - self._until_ms.keys():
            if await self._workers.may_speak("ended", action, before[action]):
                log.info("fault.ended", action=action)
                told = {
                    "action": action,
                    "active": False,
                    "until": None,
                    "parameters": {"what": FAULTS[action].what},
                }
                await self._queue.publish("sim:control", told)

    async def start(self, action: str, seconds: int | None) -> dict[str, Any]:
        """Do it. Raises InvalidField (unknown action), Conflict (no worker to crash), Transient."""
        fault = FAULTS.get(action)
        if fault is None:
            raise InvalidField(f"action must be one of {', '.join(FAULTS)}", field="action")
        parameters: dict[str, Any] = {"what": fault.what}
        match action:
            case "crash_worker":
                parameters["worker"] = await self._crash_worker()
            case "flush_queue":
                parameters["jobs"] = len(await self._queue.flush())
            case "reset":
                await self._reset()
        lasts = 0 if not fault.seconds else (seconds or fault.seconds)
        until = self._clock() + lasts * 1000 if lasts else None
        if until is not None:
            with translated():
                await self._redis.set(keys.fault(action), until, px=lasts * 1000)
            # A new table: a look that is under way compares with the old one, and takes this for no end.
            self._until_ms = {**self._until_ms, action: until}
        told = {"action": action, "active": until is not None, "until": iso(until) if until else None}
        await self._queue.publish("sim:control", {**told, "parameters": parameters})
        log.warning("fault.started", action=action, seconds=lasts)
        return told

    async def _crash_worker(self) -> str:
        beating = await self._workers.beating()
        if not beating:
            raise Conflict("no worker is running")
        # The busy one: a crash is worth watching in the middle of work.
        victim = max(beating, key=lambda w: (w.status == "busy", w.at))
        await self._workers.crash(victim.id)
        return victim.id

    async def _reset(self) -> None:
        with translated():
            await self._redis.delete(*(keys.fault(action) for action in FAULTS))
        await self.refresh()
        await self._reading.reset()
