"""Tells the viewers what a commit did: one message per commit on the live bus, with a fair sample of entries.

Best effort and behind the commit: when Redis is away nothing waits for it. The message counts everything, so
what the sample leaves out is known exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from tracehub.pipeline.store import Stored
from tracehub.protocol import ranges as r
from tracehub.protocol.errors import TraceHubError
from tracehub.protocol.limits import MISSING_NAMED_MAX
from tracehub.protocol.logentry import log_entry
from tracehub.protocol.messages import Committed, Request, StreamKey, by_service, encode, encode_shown
from tracehub.protocol.ranges import EMPTY, Ranges, first_numbers
from tracehub.protocol.severity import ERROR
from tracehub.storage.ports import CompletedReplay, Told
from tracehub.storage.redis.queue import RedisQueue, live_message

log = structlog.get_logger()


class Publisher:
    """`live_max`: entries a second that this worker shows at most. `notice` is told of each commit; it never fails."""

    def __init__(
        self, queue: RedisQueue, worker_id: str, live_max: int, notice: Callable[[Stored], None]
    ) -> None:
        self._notice = notice
        self._queue = queue
        self._worker_id = worker_id
        self._live_max = live_max
        self._second = 0
        self._left = live_max

    def describe(self, stored: Stored, now_ms: int) -> Told:
        """What is said of one commit; it goes out with the receipts, just before them."""
        self._notice(stored)
        counts = _by_service(stored.fresh)
        total = sum(count for count, _ in counts.values())
        streams = [
            {
                "tenant": stream.tenant_id,
                "service": stream.numbering,
                "epoch": stream.epoch,
                "ackTill": state.ack_till,
                "missing": first_numbers(state.gaps.ranges, MISSING_NAMED_MAX),
                "missingCount": state.gaps.count,
            }
            for stream, state in stored.states.items()
            if not stream.by_server
        ]
        data: dict[str, Any] = {"at": now_ms, "worker": self._worker_id, "stored": total, "streams": streams}
        data["services"] = [(*name, *count) for name, count in counts.items()]
        data["duplicates"] = sum(o.duplicates for o in stored.outcomes)
        data["conflicts"] = sum(o.conflicts for o in stored.outcomes)
        data["entries"] = encode_shown(self._sample(stored, total, now_ms))
        data["replays"] = [replay_completed(stream, completed) for stream, completed in stored.completed]
        tenants = sorted({tenant_id for tenant_id, _ in counts})
        return Told(live_message("stored", data), tenants, _committed(stored, tenants, total))

    async def publish(self, stored: Stored, now_ms: int) -> None:
        """For commits without receipts. Best effort: what is not heard is not missed."""
        try:
            await self._queue.publish_commit(self.describe(stored, now_ms))
        except TraceHubError as error:
            log.warning("live.unreachable", reason=error.message)

    def _sample(self, stored: Stored, total: int, now_ms: int) -> list[dict[str, Any]]:
        if now_ms // 1000 != self._second:
            self._second, self._left = now_ms // 1000, self._live_max
        take = min(self._left, total)
        if not take:
            return []
        self._left -= take
        step = total / take
        shown: list[dict[str, Any]] = []
        place, wanted = 0, 0.0
        for request, left_out in stored.fresh:
            size = len(request.entries) - len(left_out)
            if not left_out:
                # Jump from one wanted entry to the next instead of walking all of them.
                while wanted < place + size and len(shown) < take:
                    shown.append(log_entry(request, int(wanted) - place, stored.created_ms))
                    wanted += step
            else:
                kept = [index for index in range(len(request.entries)) if index not in left_out]
                while wanted < place + size and len(shown) < take:
                    shown.append(log_entry(request, kept[int(wanted) - place], stored.created_ms))
                    wanted += step
            place += size
        return shown


def _committed(stored: Stored, tenants: list[str], total: int) -> bytes:
    stretches: dict[int, Ranges] = {}
    for request, left_out in stored.fresh:
        numbers = request.ranges
        if left_out:
            numbers = r.of_numbers(e.seq for i, e in enumerate(request.entries) if i not in left_out)
        stream_id = stored.states[request.stream].stream_id
        stretches[stream_id] = r.union(stretches.get(stream_id, EMPTY), numbers)
    return encode(Committed(tenants, list(stretches.items()), total)) if total else b""


def _by_service(fresh: list[tuple[Request, set[int]]]) -> dict[tuple[str, str], tuple[int, int]]:
    """(tenant, service) to stored entries and errors among them."""
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    for request, left_out in fresh:
        for name, entries in by_service(request, left_out).items():
            stored, errors = counts.get(name, (0, 0))
            errors += sum(e.severity >= ERROR for e in entries)
            counts[name] = (stored + len(entries), errors)
    return counts


def replay_completed(stream: StreamKey, done: CompletedReplay) -> dict[str, Any]:
    """The event `replay:completed` (ingest.md §7), and whose it is."""
    return {
        "tenant": stream.tenant_id,
        "id": done.id,
        "service": stream.numbering,
        "epoch": stream.epoch,
        "from": done.first,
        "to": done.last,
        "count": done.count,
        "latencyMs": done.latency_ms,
    }
