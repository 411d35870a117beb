"""The last hour as this backend saw it, for a page that is opened in the middle of it: rates and depths every
POINT_S, and what happened. In memory, bounded; a restarted backend begins anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, TypeAlias

from apps.backend.live.board import Board
from tracehub.protocol.errors import TraceHubError
from tracehub.protocol.messages import LiveMessage
from tracehub.runtime.clock import Clock
from tracehub.storage.redis import keys
from tracehub.storage.redis.queue import RedisQueue

POINT_S = 2.0
POINTS_MAX = 1_800
EVENTS_MAX = 500
# Not the replays: they are daily bread, and have a table of their own.
KEPT = frozenset(("worker:crashed", "worker:recovered", "sim:control"))

# Unix ms; entries a second received and stored; entries in queue:logs and queue:retry; ms that the oldest waits.
Point: TypeAlias = tuple[int, float, float, int | None, int | None, int | None]
COLUMNS = ("at", "received", "stored", "logs", "retry", "oldestMs")


class Trail:
    """One per backend; `run` is its task."""

    def __init__(self, board: Board, queue: RedisQueue, clock: Clock) -> None:
        self._board = board
        self._queue = queue
        self._clock = clock
        self._points: deque[Point] = deque(maxlen=POINTS_MAX)
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_MAX)

    async def run(self) -> None:
        """Add a point every POINT_S until cancelled."""
        while True:
            self._points.append(await self._point())
            await asyncio.sleep(POINT_S)

    async def _point(self) -> Point:
        now, second = self._clock(), self._board.second
        rates = (round(self._board.received.mean(second), 2), round(self._board.stored.mean(second), 2))
        try:
            depths = await self._queue.depths(now)
        except TraceHubError:
            return (now, *rates, None, None, None)
        logs, retry = depths[keys.QUEUE_LOGS], depths[keys.QUEUE_RETRY]
        return (now, *rates, logs.entries, retry.entries, logs.oldest_ms)

    def heard(self, live: LiveMessage) -> None:
        """One message of the live bus."""
        if live.event in KEPT:
            self._events.append({"at": self._clock(), "event": live.event, "data": live.shown()})

    def plain(self) -> dict[str, Any]:
        """Columns of points, oldest first, and the events."""
        columns = zip(*self._points, strict=True) if self._points else ((),) * len(COLUMNS)
        return {**dict(zip(COLUMNS, map(list, columns), strict=True)), "events": list(self._events)}
