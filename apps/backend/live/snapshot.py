"""SystemMetrics (ingest.md §8): the board, the queue, the ledger and the workers in one picture."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from apps.backend.faults import Faults
from apps.backend.live.board import Board
from apps.backend.live.view import View
from tracehub.protocol.errors import TraceHubError
from tracehub.protocol.messages import Mark, StreamKey
from tracehub.protocol.ranges import EMPTY, Ranges, first_numbers, union
from tracehub.protocol.ranges import highest as highest_of
from tracehub.protocol.times import iso, unix_ms
from tracehub.runtime.clock import Clock, monotonic_s
from tracehub.storage.ports import Ledger
from tracehub.storage.postgres.reading import LedgerReading
from tracehub.storage.redis import keys
from tracehub.storage.redis.queue import Depth, RedisQueue
from tracehub.storage.redis.workers import ALIVE_MS, Workers

SILENT_MS = 60_000
CACHE_S = 1.0
VIEWS_MAX = 100
SNAPSHOT_SERVICES_MAX = 200


class Snapshots:
    """Makes snapshots; asked by many at once, it looks once a second."""

    def __init__(
        self,
        *,
        workers: Workers, queue: RedisQueue, ledger: Ledger, reading: LedgerReading, board: Board,
        faults: Faults, clock: Clock,
    ) -> None:  # fmt: skip
        self._workers = workers
        self._queue = queue
        self._ledger = ledger
        self._reading = reading
        self._board = board
        self._faults = faults
        self._clock = clock
        self._lock = asyncio.Lock()
        self._made: dict[View, tuple[float, dict[str, Any]]] = {}

    async def take(self, view: View) -> dict[str, Any]:
        """The picture of now, at most CACHE_S old. Raises Transient."""
        async with self._lock:
            made_at, made = self._made.get(view, (-CACHE_S, {}))
            if monotonic_s() - made_at > CACHE_S:
                made = await self._make(view)
                self._made.pop(view, None)
                self._made[view] = (monotonic_s(), made)
                if len(self._made) > VIEWS_MAX:
                    del self._made[next(iter(self._made))]
            return made

    async def _make(self, view: View) -> dict[str, Any]:
        now = self._clock()
        marks = await self._queue.marks()
        totals = await self._reading.totals(view.tenant_id, view.service)
        tallies, second = self._board.of(view), self._board.second
        services = await self.services(view, marks=marks, limit=SNAPSHOT_SERVICES_MAX)
        own = _own_depth(marks, view, now)
        if view.of_server:
            depths = await self._queue.depths(now)
        else:  # of the whole queue only what is theirs; a replay has no entries before it runs
            depths = {keys.QUEUE_LOGS: own, keys.QUEUE_RETRY: Depth(0, 0, 0)}
        return {
            "ts": iso(now),
            "eps": round(tallies.received.mean(second), 2),
            "epsStored": round(tallies.stored.mean(second), 2),
            "errorRate": tallies.error_rate(second),
            "queue": {
                "logs": _depth(depths[keys.QUEUE_LOGS]),
                "retry": _depth(depths[keys.QUEUE_RETRY]),
                "dead": totals["dead"],
            },
            "ack": {"p50Ms": self._board.latency(0.5), "p99Ms": self._board.latency(0.99)},
            "services": services,
            "workers": await self.workers(),
            "replays": await self._reading.replay_counts(view.tenant_id, view.service),
            "totals": {
                "received": tallies.received_total,
                "stored": totals["received"],
                "duplicates": totals["duplicates"],
                "conflicts": totals["conflicts"],
                "lost": totals["lost"],
                "inFlight": own.entries,
            },
            "faults": self._faults.active(),
            "live": {
                "sent": tallies.shown,
                "skipped": tallies.skipped,
                "clients": self._board.clients.total()
                if view.of_server
                else self._board.clients[view.tenant_id],
            },
        }

    async def workers(self) -> list[dict[str, Any]]:
        """Every worker that did not say goodbye. `status`: idle, busy or dead."""
        now = self._clock()
        return [
            {
                "id": w.id,
                "status": "dead" if now - w.at > ALIVE_MS else w.status,
                "lastHeartbeat": iso(w.at),
                "jobsDone": w.jobs_done,
            }
            for w in await self._workers.records()
        ]

    async def services(
        self, view: View, *, marks: Mapping[str, Mark] | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """GET /services."""
        if marks is None:
            marks = await self._queue.marks()
        flying, since = _in_flight(marks)
        rows = await self._reading.services(view.tenant_id, view.service)
        if limit is not None and len(rows) > limit:
            rows = sorted(rows, key=lambda row: row["updated_at"], reverse=True)[:limit]
        described = [await self._service(row, flying, since, named=view.tenant_id is None) for row in rows]
        return sorted(described, key=lambda s: str(s["service"]))

    async def _service(
        self,
        row: dict[str, Any],
        flying: dict[StreamKey, Ranges],
        since: dict[StreamKey, int],
        *,
        named: bool,
    ) -> dict[str, Any]:
        """`named`: whether the tenant is told, because several are."""
        now, tenant_id = self._clock(), str(row["tenant_id"])
        stream = StreamKey(tenant_id, row["service"], row["epoch"])
        ack = await ack_of(self._ledger, stream, flying.get(stream, EMPTY), row)
        tallies, second = self._board.of_service(tenant_id, row["service"]), self._board.second
        seen_ms = unix_ms(row["updated_at"])
        silent = now - seen_ms > SILENT_MS
        state = "replaying" if row["replaying"] else "gapping" if ack["missingCount"] else "ok"
        return {
            **({"tenant_id": tenant_id} if named else {}),
            **ack,
            "eps": round(tallies.stored.mean(second), 2),
            "errorRate": tallies.error_rate(second),
            "lagMs": max(0, now - since[stream]) if stream in since else 0,
            "oldestGapMs": _age(row["oldest_gap"], now),
            "lastSeen": iso(seen_ms),
            "state": "silent" if silent and state == "ok" else state,
        }


async def ack_of(
    ledger: Ledger, stream: StreamKey, in_flight: Ranges, row: dict[str, Any] | None = None
) -> dict[str, Any]:
    """GET /ack/{service}: one stream. `row` spares the look-up when the stream is known to be whole."""
    whole = row is not None and row["ack_till"] >= row["highest"] and not in_flight
    state = None if whole else await ledger.state(stream, in_flight)
    if state is None:
        known = row or {"ack_till": 0, "highest": 0, "lost_count": 0}
        missing: Ranges = EMPTY
        count, ack_till, highest = 0, known["ack_till"], max(known["highest"], highest_of(in_flight))
        lost = known["lost_count"]
    else:
        missing, count = state.gaps.ranges, state.gaps.count
        ack_till, highest, lost = state.ack_till, state.highest_seen, state.lost_count
    flying = sum(last - first + 1 for first, last in in_flight)
    return {
        "service": stream.numbering,
        "epoch": stream.epoch,
        "ackTill": ack_till,
        "highestSeen": highest,
        "missing": first_numbers(missing, 1000),
        "missingRanges": [list(pair) for pair in missing],
        "missingCount": count,
        "lostCount": lost,
        "inFlight": flying,
        "status": "partial" if count else "ok",
    }


def _in_flight(marks: Mapping[str, Mark]) -> tuple[dict[StreamKey, Ranges], dict[StreamKey, int]]:
    flying: dict[StreamKey, list[Ranges]] = {}
    since: dict[StreamKey, int] = {}
    for mark in marks.values():
        for marked in mark.streams:
            flying.setdefault(marked.stream, []).append(marked.ranges)
            since[marked.stream] = min(mark.queued_ms, since.get(marked.stream, mark.queued_ms))
    return {stream: union(*parts) for stream, parts in flying.items()}, since


def _own_depth(marks: Mapping[str, Mark], view: View, now_ms: int) -> Depth:
    """What of the queued and running entries is within a view."""
    entries, oldest_ms = 0, now_ms
    for mark in marks.values():
        mine = [m for m in mark.streams if view.sees(m.stream.tenant_id, m.stream.numbering)]
        if mine:
            entries += sum(last - first + 1 for m in mine for first, last in m.ranges)
            oldest_ms = min(oldest_ms, mark.queued_ms)
    return Depth(entries, 0, max(0, now_ms - oldest_ms))


def _depth(depth: Depth) -> dict[str, int]:
    return {"depth": depth.entries, "oldestMs": depth.oldest_ms}


def _age(moment: datetime | None, now_ms: int) -> int:
    if moment is None:
        return 0
    return max(0, now_ms - unix_ms(moment))


async def try_snapshot(snapshots: Snapshots, view: View) -> dict[str, Any] | None:
    """A snapshot, or None while a store is away."""
    try:
        return await snapshots.take(view)
    except TraceHubError:
        return None
