"""Storing in one step, against itself and against the long way: many at once on the same streams of a real
Postgres. Whatever the order, each number is stored once and nobody waits for ever."""

from __future__ import annotations

import asyncio
import random

import asyncpg
import pytest

from tests.making import NOW_MS, request, stream
from tracehub.pipeline import store as pipeline_store
from tracehub.pipeline.store import Moment, seen, store
from tracehub.protocol.errors import Transient
from tracehub.storage.postgres.connect import open_pool
from tracehub.storage.postgres.ledger import PostgresLedger
from tracehub.storage.postgres.verify import verify

STREAMS = [stream(epoch=n) for n in range(6)]
MOMENT = Moment(seen(), NOW_MS)
TASKS, ROUNDS = 8, 40


async def stored_in_one_step(ledger: PostgresLedger, *requests: object) -> set[int]:
    """The epochs that one statement stored."""
    ids = await ledger.resolve([q.stream for q in requests])  # type: ignore[attr-defined]
    assert await ledger.ensure_partitions([NOW_MS], 10)
    done = await ledger.store_whole(requests, ids, {}, NOW_MS)  # type: ignore[arg-type]
    return {key.epoch for key in done}


@pytest.mark.parametrize("mixed", [False, True], ids=["one step", "both ways"])
async def test_many_at_once_store_each_number_once(
    database: str, mixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also streams in any order, numbers that somebody else sends at the same moment, and gaps."""
    rng = random.Random(7)

    async def work(ledger: PostgresLedger) -> int:
        accepted = 0
        for turn in range(ROUNDS):
            if mixed:
                monkeypatch.setattr(pipeline_store, "SMALL_ROWS_MAX", rng.choice((0, 128)))
            chosen = rng.sample(STREAMS, rng.randrange(1, 5))
            requests = [
                request(range(first := max(1, turn * 3 - 4), first + rng.randrange(1, 9)), s) for s in chosen
            ]
            done = await asyncio.wait_for(store(ledger, requests, MOMENT), 20)
            accepted += sum(outcome.accepted for outcome in done.outcomes)
        return accepted

    async with open_pool(database, "test") as pool:
        ledger = PostgresLedger(pool)
        counts = await asyncio.gather(*(work(ledger) for _ in range(TASKS)))
        rows = await pool.fetchval("select count(*) from logs")
        twice = await pool.fetchval(
            "select count(*) from (select from logs group by stream_id, seq having count(*) > 1) as d"
        )
    assert twice == 0
    assert sum(counts) == rows > 0
    assert not (await verify(database)).differences


async def test_one_step_takes_only_what_is_whole(database: str) -> None:
    """A gap, a number that is known, an open replay: left as it is; its neighbours are stored."""
    async with open_pool(database, "test") as pool:
        ledger = PostgresLedger(pool)
        await store(ledger, [request([1, 2], STREAMS[0]), request([1, 5], STREAMS[1])], MOMENT)
        done = await stored_in_one_step(
            ledger,
            request([2, 3], STREAMS[0]),  # 2 is known
            request([2, 3, 4], STREAMS[1]),  # it heals, but a replay is open
            request([2], STREAMS[2]),  # 1 is missing
            request([1, 2], STREAMS[3]),
        )
        assert done == {3}
        assert await pool.fetchval("select count(*) from logs") == 6
    assert not (await verify(database)).differences


async def test_one_step_waits_for_a_lock_and_sees_what_was_committed(database: str) -> None:
    """Numbers that another transaction adds while this one waits for its lock are not stored again, nor
    forgotten in the ledger."""
    async with open_pool(database, "test") as pool:
        ledger = PostgresLedger(pool)
        await store(ledger, [request([1], STREAMS[0])], MOMENT)
        other = await asyncpg.connect(database)
        async with other.transaction():
            await other.execute("select from ack_state for update")
            waiting = asyncio.ensure_future(stored_in_one_step(ledger, request([2, 3], STREAMS[0])))
            await _until_somebody_waits(pool)
            await other.execute("update ack_state set duplicates = 5")  # a new version of the row
        assert await waiting == {0}
        assert await pool.fetchrow("select received::text, duplicates from ack_state") == ("{[1,4)}", 5)

        async with other.transaction():
            await other.execute("select from ack_state for update")
            waiting = asyncio.ensure_future(stored_in_one_step(ledger, request([4, 5], STREAMS[0])))
            await _until_somebody_waits(pool)
            await other.execute("update ack_state set lost = '{[5,6)}'")
        assert await waiting == set()
        assert await pool.fetchval("select count(*) from logs") == 3
        await other.close()


async def _until_somebody_waits(pool: asyncpg.Pool) -> None:
    from tests.eventually import eventually

    async def waits() -> bool:
        return bool(await pool.fetchval("select count(*) from pg_locks where not granted"))

    await eventually(waits)


async def test_partition_that_somebody_dropped_is_made_again(database: str) -> None:
    """What is remembered of partitions is forgotten, also by the one step; the next try stores."""
    async with open_pool(database, "test") as pool:
        ledger = PostgresLedger(pool)
        await store(ledger, [request([1], STREAMS[0])], MOMENT)
        for row in await pool.fetch(
            "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'logs'::regclass"
        ):
            await pool.execute(f"drop table {row['name']}")
        with pytest.raises(Transient):
            await store(ledger, [request([2], STREAMS[0])], MOMENT)
        done = await store(ledger, [request([2], STREAMS[0])], MOMENT)
        assert (done.outcomes[0].accepted, done.outcomes[0].ack_till) == (1, 2)
