"""SystemMetrics (ingest.md §8): the board, the queue, the ledger and the workers in one picture."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from apps.backend.faults import Faults
from apps.backend.live.board import Board
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
        self._made_at = -CACHE_S
        self._made: dict[str, Any] = {}
        self.live: dict[str, int] = {"sent": 0, "skipped": 0, "clients": 0}

    async def take(self, tenant_id: str) -> dict[str, Any]:
        """The picture of now, at most CACHE_S old. Raises Transient."""
        async with self._lock:
            if monotonic_s() - self._made_at > CACHE_S:
                self._made = await self._make(tenant_id)
                self._made_at = monotonic_s()
            return self._made

    async def _make(self, tenant_id: str) -> dict[str, Any]:
        now = self._clock()
        depths = await self._queue.depths(now)
        marks = await self._queue.marks()
        totals = await self._reading.totals()
        board, second = self._board, self._board.second
        services = await self.services(tenant_id, marks=marks, limit=SNAPSHOT_SERVICES_MAX)
        return {
            "ts": iso(now),
            "eps": round(board.received.mean(second), 2),
            "epsStored": round(board.stored.mean(second), 2),
            "errorRate": board.error_rate(),
            "queue": {
                "logs": _depth(depths[keys.QUEUE_LOGS]),
                "retry": _depth(depths[keys.QUEUE_RETRY]),
                "dead": totals["dead"],
            },
            "ack": {"p50Ms": board.latency(0.5), "p99Ms": board.latency(0.99)},
            "services": services,
            "workers": await self.workers(),
            "replays": await self._reading.replay_counts(),
            "totals": {
                "received": board.totals["received"],
                "stored": totals["received"],
                "duplicates": totals["duplicates"],
                "conflicts": totals["conflicts"],
                "lost": totals["lost"],
                "inFlight": sum(mark.entries for mark in marks.values()),
            },
            "faults": self._faults.active(),
            "live": dict(self.live),
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
        self, tenant_id: str, *, marks: Mapping[str, Mark] | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """GET /services."""
        if marks is None:
            marks = await self._queue.marks()
        flying, since = _in_flight(marks)
        rows = await self._reading.services(tenant_id)
        if limit is not None and len(rows) > limit:
            rows = sorted(rows, key=lambda row: row["updated_at"], reverse=True)[:limit]
        described = [await self._service(tenant_id, row, flying, since) for row in rows]
        return sorted(described, key=lambda s: str(s["service"]))

    async def _service(
        self,
        tenant_id: str,
        row: dict[str, Any],
        flying: dict[StreamKey, Ranges],
        since: dict[StreamKey, int],
    ) -> dict[str, Any]:
        now = self._clock()
        stream = StreamKey(tenant_id, row["service"], row["epoch"])
        ack = await ack_of(self._ledger, stream, flying.get(stream, EMPTY), row)
        board = self._board.services.get((tenant_id, row["service"]))
        second = self._board.second
        stored = board.stored.total(second) if board else 0
        errors = board.errors.total(second) if board else 0
        seen_ms = unix_ms(row["updated_at"])
        silent = now - seen_ms > SILENT_MS
        state = "replaying" if row["replaying"] else "gapping" if ack["missingCount"] else "ok"
        return {
            **ack,
            "eps": round(board.stored.mean(second), 2) if board else 0.0,
            "errorRate": round(errors / stored, 4) if stored else 0.0,
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


def _depth(depth: Depth) -> dict[str, int]:
    return {"depth": depth.entries, "oldestMs": depth.oldest_ms}


def _age(moment: datetime | None, now_ms: int) -> int:
    if moment is None:
        return 0
    return max(0, now_ms - unix_ms(moment))


async def try_snapshot(snapshots: Snapshots, tenant_id: str) -> dict[str, Any] | None:
    """A snapshot, or None while a store is away."""
    try:
        return await snapshots.take(tenant_id)
    except TraceHubError:
        return None
