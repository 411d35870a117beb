"""Replay requests, sign-off and superseded epochs, on every adapter (ingest.md §4, §5)."""

from __future__ import annotations

import json
from typing import Any

from tests.making import NOW_MS, request, stream
from tracehub.pipeline.replay import replay
from tracehub.pipeline.signoff import supersede
from tracehub.pipeline.store import Moment, seen, store
from tracehub.protocol.errors import Transient
from tracehub.protocol.messages import Mark, MarkedStream
from tracehub.storage.memory.buffers import MemoryBuffers
from tracehub.storage.memory.queue import MemoryQueue


class Buffer:
    """One producer's buffer, as the server sees it."""

    def __init__(self, epoch: int = 0, *numbers: int) -> None:
        self.meta = {"epoch": str(epoch), "next": str(max(numbers, default=0) + 1), "start": "1"}
        self.members = {
            n: json.dumps({"epoch": epoch, "seq": n, "message": f"message {n}"}).encode() for n in numbers
        }
        self.down = False

    def look(self, tenant_id: str, service: str) -> Any:
        if self.down:
            raise Transient
        return self.meta, self.members


def due_at(ledger: Any, ms: int) -> None:
    """Let so much time pass since gaps were seen."""
    if hasattr(ledger, "now_ms"):
        ledger.now_ms = lambda: NOW_MS + ms


async def age(ledger: Any, ms: int) -> int:
    """Make every open request this old; the time it is then."""
    pool = getattr(ledger, "_pool", None)
    if pool is None:
        due_at(ledger, ms)
        return NOW_MS + ms
    await pool.execute(
        "update replay_requests set created_at = now() - $1::bigint * interval '1 ms', next_at = now()", ms
    )
    return int(await pool.fetchval("select (extract(epoch from now()) * 1000)::bigint")) + 5


async def run(ledger: Any, buffer: Buffer, ms: int, queue: MemoryQueue | None = None) -> Any:
    now = await age(ledger, ms)
    return await replay(
        ledger,
        MemoryBuffers(buffer.look),
        queue or MemoryQueue(),
        stream(),
        now_ms=now,
        random=lambda n: (now % 251 + ms).to_bytes(n, "big"),
    )


async def gap(ledger: Any, *numbers: int) -> None:
    await store(ledger, [request(numbers)], Moment(seen(), NOW_MS))


async def state(ledger: Any) -> Any:
    return await ledger.state(stream(), ())


async def test_replay_takes_gaps_out_of_the_buffer(ledger: Any) -> None:
    await gap(ledger, 1, 2, 5)
    done = await run(ledger, Buffer(0, 3, 4, 5, 6), 600)
    assert (await state(ledger)).ack_till == 5
    assert [(c.first, c.last) for _, c in done.stored.completed] == [(3, 4)]
    assert await ledger.streams_with_due_replays() == []


async def test_replay_signs_off_after_three_clean_misses(ledger: Any) -> None:
    await gap(ledger, 1, 4)
    for ms, ack_till in ((600, 1), (1_100, 1), (5_100, 1), (25_100, 4)):
        await run(ledger, Buffer(0, 4, 9), ms)
        assert (await state(ledger)).ack_till == ack_till, ms
    assert (await state(ledger)).lost_count == 2


async def test_unreadable_buffers_never_count(ledger: Any) -> None:
    await gap(ledger, 1, 4)
    down = Buffer(0, 4)
    down.down = True
    empty = Buffer(0)
    for buffer in (down, empty, Buffer(7, 4)):
        for ms in (1_100, 5_100, 25_100, 60_000):
            await run(ledger, buffer, ms)
    assert ((await state(ledger)).ack_till, (await state(ledger)).lost_count) == (1, 0)


async def test_what_is_in_flight_is_not_signed_off(ledger: Any) -> None:
    await gap(ledger, 1, 4)
    queue = MemoryQueue()
    queue.inflight["job"] = Mark((MarkedStream(stream(), ((3, 3),)),), 1, 10, NOW_MS)
    for ms in (1_100, 5_100, 25_100):
        await run(ledger, Buffer(0, 4), ms, queue)
    seen = await state(ledger)
    assert (seen.ack_till, seen.lost_count, seen.gaps.ranges) == (2, 1, ((3, 3),))


async def test_members_that_the_door_would_refuse_are_skipped(ledger: Any) -> None:
    await gap(ledger, 1, 4)
    buffer = Buffer(0, 2, 3, 4)
    buffer.members[3] = b'{"epoch":0,"seq":3,"ts":"never"}'
    await run(ledger, buffer, 600)
    assert (await state(ledger)).gaps.ranges == ((3, 3),)


async def test_late_batch_completes_the_request(ledger: Any) -> None:
    await gap(ledger, 1, 4)
    stored = await store(ledger, [request([2, 3])], Moment(seen(), NOW_MS))
    assert [(c.first, c.last, c.count) for _, c in stored.completed] == [(2, 3, 0)]


async def test_replay_reads_long_gaps_in_slices(ledger: Any) -> None:
    await gap(ledger, 1, 3_502)
    await run(ledger, Buffer(0, *range(2, 3_503)), 600)
    assert (await state(ledger)).ack_till == 3_502


async def test_operator_signs_off_only_what_is_unresolved(ledger: Any) -> None:
    await gap(ledger, 1, 4, 5)
    stream_id = (await state(ledger)).stream_id
    count, completed = await ledger.sign_off(stream_id, ((1, 5),), ((3, 3),), reason="operator", by="me")
    assert count == 1
    assert completed == []
    count, completed = await ledger.sign_off(stream_id, ((1, 5),), (), reason="operator", by="me")
    assert (count, [(c.first, c.last) for c in completed]) == (1, [(2, 3)])
    assert (await state(ledger)).ack_till == 5


async def test_older_epoch_is_superseded_once_nothing_of_it_flies(ledger: Any) -> None:
    await gap(ledger, 1, 4)
    queue = MemoryQueue()
    assert await supersede(ledger, queue) == []
    await store(ledger, [request([1], stream(epoch=9), start=1)], Moment(seen(), NOW_MS))
    queue.inflight["job"] = Mark((MarkedStream(stream(), ((3, 3),)),), 1, 10, NOW_MS)
    assert await supersede(ledger, queue) == []
    queue.inflight.clear()
    assert await supersede(ledger, queue) == [(stream(), 2)]
    assert (await state(ledger)).ack_till == 4
    assert await supersede(ledger, queue) == []
