"""The last hour as this backend saw it, for a page that is opened in the middle of it: rates and depths every
POINT_S, and what happened. In memory, bounded; a restarted backend begins anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import Any, TypeAlias

from apps.backend.live.board import Board, Tallies
from apps.backend.live.view import View
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

TENANTS_MAX = 100  # of each point; who was busy

Rates: TypeAlias = tuple[float, float]  # entries a second received and stored
# Unix ms; rates by tenant (None: all); entries in queue:logs and queue:retry; ms that the oldest waits.
Point: TypeAlias = tuple[int, dict[str | None, Rates], int | None, int | None, int | None]
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
        tenants: list[str | None] = [None, *islice(self._board.tenants, TENANTS_MAX)]
        rates = {tenant: _rates(self._board.of(View(tenant)), second) for tenant in tenants}
        rates = {tenant: pair for tenant, pair in rates.items() if any(pair)}
        try:
            depths = await self._queue.depths(now)
        except TraceHubError:
            return (now, rates, None, None, None)
        logs, retry = depths[keys.QUEUE_LOGS], depths[keys.QUEUE_RETRY]
        return (now, rates, logs.entries, retry.entries, logs.oldest_ms)

    def heard(self, live: LiveMessage) -> None:
        """One message of the live bus."""
        if live.event in KEPT:
            self._events.append({"at": self._clock(), "event": live.event, "data": live.shown()})

    def plain(self, view: View) -> dict[str, Any]:
        """Columns of points, oldest first, and the events. Of a single service there are no points; what waits in
        the queue altogether is told to those only who see the whole server."""
        points = [_seen(point, view) for point in self._points] if view.service is None else []
        columns = zip(*points, strict=True) if points else ((),) * len(COLUMNS)
        return {**dict(zip(COLUMNS, map(list, columns), strict=True)), "events": list(self._events)}


def _rates(tallies: Tallies, second: int) -> Rates:
    return round(tallies.received.mean(second), 2), round(tallies.stored.mean(second), 2)


def _seen(point: Point, view: View) -> tuple[float | None, ...]:
    at, rates, *depths = point
    own = rates.get(view.tenant_id, (0.0, 0.0))
    return (at, *own, *(depths if view.of_server else (None, None, None)))
