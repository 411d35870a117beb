"""Numberings of the server: ids that clients gave, keys that mean once, numbers that nobody got."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.conformance.conftest import POISON
from tests.making import NOW_MS, request
from tracehub.pipeline.recount import recount
from tracehub.pipeline.store import REPEATED, Moment, seen, store
from tracehub.pipeline.void import close_void
from tracehub.protocol.messages import Entry, Mark, MarkedStream, Once, Own, Request, StreamKey
from tracehub.storage.memory.queue import MemoryQueue
from tracehub.storage.redis.keys import ZERO_TENANT

OTHER_TENANT = str(uuid.UUID(int=7))
DOOR = StreamKey(ZERO_TENANT, "@logs", 5)


def written(seq: int, message: str = "", own_id: int | None = None, tenant: str = ZERO_TENANT) -> Entry:
    given = None if own_id is None else own_id.to_bytes(16, "big")
    return Entry(
        seq, NOW_MS, True, 9, "info", message or f"message {seq}", own=Own(tenant, "auth", None, given)
    )


def asked(*entries: Entry, once: Once | None = None) -> Request:
    made = request((), DOOR, entries=list(entries))
    return Request(*(getattr(made, name) for name in made.__struct_fields__[:-1]), once)


async def stored(ledger: Any, *requests: Request, now_ms: int = NOW_MS) -> list[tuple[int, int, int, str]]:
    done = await store(ledger, requests, Moment(seen(), now_ms))
    return [(o.accepted, o.duplicates, o.conflicts, o.refused) for o in done.outcomes]


async def test_holes_are_no_gaps(ledger: Any) -> None:
    done = await store(ledger, [asked(written(3)), asked(written(900))], Moment(seen(), NOW_MS))
    assert [(o.accepted, o.missing_count, o.replay_queued) for o in done.outcomes] == [(1, 0, 0), (1, 0, 0)]
    assert await ledger.streams_with_due_replays() == []


async def test_an_id_stands_once_in_its_tenant(ledger: Any) -> None:
    assert await stored(ledger, asked(written(1, "one", 70))) == [(1, 0, 0, "")]
    assert await stored(ledger, asked(written(2, "one", 70))) == [(0, 1, 0, "")]
    assert await stored(ledger, asked(written(3, "other", 70))) == [(0, 0, 1, "")]
    assert await stored(ledger, asked(written(4, "one", 70, OTHER_TENANT))) == [(1, 0, 0, "")]


async def test_an_id_twice_in_a_request_or_a_group(ledger: Any) -> None:
    both = asked(written(1, "one", 71), written(2, "one", 71), written(3, "other", 71), written(4, "none"))
    later = asked(written(5, "one", 71))
    assert await stored(ledger, both, later) == [(2, 1, 1, ""), (0, 1, 0, "")]


async def test_a_job_that_runs_twice_gives_the_same_outcome(ledger: Any) -> None:
    first = asked(written(1, "one", 72))
    await stored(ledger, first)
    job = asked(written(2, "one", 72), written(3, "new", 73), written(4, "plain"))
    assert await stored(ledger, job) == [(2, 1, 0, "")]
    assert await stored(ledger, job) == [(2, 1, 0, "")]
    queue = MemoryQueue()
    outcome = await recount(ledger, queue, job)
    assert outcome is not None
    assert (outcome.accepted, outcome.duplicates) == (2, 1)


async def test_a_key_means_once(ledger: Any) -> None:
    once = Once(b"s" * 32, b"b" * 32)
    first, second = asked(written(1), written(2), once=once), asked(written(3), once=once)
    assert await ledger.once(once.scope) is None
    assert await stored(ledger, first, second) == [(2, 0, 0, ""), (0, 0, 0, REPEATED)]
    assert await stored(ledger, second) == [(0, 0, 0, REPEATED)]
    assert await stored(ledger, first) == [(2, 0, 0, "")]
    settled = await ledger.once(once.scope)
    assert (settled.body, settled.id_base, settled.accepted) == (once.body, first.id_base, 2)
    assert settled.created_ms == NOW_MS


async def test_numbers_that_nobody_got_are_closed_by_the_second_look(ledger: Any) -> None:
    queue = MemoryQueue()
    await stored(ledger, asked(written(4)), asked(written(9)))
    queue.inflight["job"] = Mark((MarkedStream(DOOR, ((6, 6),)),), 1, 1, NOW_MS)
    before, closed = await close_void(ledger, queue, {})
    assert closed == 0
    again, closed = await close_void(ledger, queue, before)
    assert closed == 6  # 1 2 3 5 7 8; 6 is in flight
    assert (await close_void(ledger, queue, again))[1] == 0
    # Who asks after a number that was closed is not told that it is stored; and it still can be.
    late = asked(written(2))
    assert await recount(ledger, queue, late) is None
    assert await stored(ledger, late) == [(1, 0, 0, "")]
    outcome = await recount(ledger, queue, late)
    assert outcome is not None
    assert outcome.accepted == 1


async def test_a_poison_entry_is_set_aside_alone(ledger: Any) -> None:
    assert await stored(ledger, asked(written(1), written(2, POISON), written(3))) == [(3, 0, 0, "")]
    state = await ledger.state(DOOR, ())
    assert sorted(await ledger.stored(state.stream_id, ((1, 3),))) == [1, 3]


@pytest.mark.parametrize("count", [1, 40])
async def test_own_fields_reach_their_rows(ledger: Any, count: int) -> None:
    made = asked(*(written(n, f"m{n}", n + 500 if n % 2 else None) for n in range(1, count + 1)))
    assert await stored(ledger, made) == [(count, 0, 0, "")]
    state = await ledger.state(DOOR, ())
    rows = await ledger.stored(state.stream_id, ((1, count),))
    assert rows[1].id == (501).to_bytes(16, "big")
    assert len(rows) == count
