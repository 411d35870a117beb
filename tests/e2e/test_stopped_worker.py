"""A worker that is only stopped (SIGSTOP) keeps its transaction and its locks; its services go on all the same.

Each case makes certain where the worker stands: the test holds a lock that the worker comes to wait for, stops
the worker there, and lets go, so that Postgres grants the lock to a client that does not move any more.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import httpx
import psutil
import pytest

from tests.e2e.load import Load
from tests.e2e.stack import Stack
from tests.eventually import eventually
from tracehub.runtime.clock import monotonic_s
from tracehub.storage.postgres.connect import parse_worker_application
from tracehub.storage.postgres.queries import SQL
from tracehub.storage.redis.keys import ZERO_TENANT

LEASE_S = 5.0
WAITING = """
select pid, application_name from pg_stat_activity
where application_name like 'tracehub-worker:%' and wait_event_type = 'Lock' and query ilike $1"""
BLOCKED = "select cardinality(pg_blocking_pids($1)) > 0"
HOLDING = """
select exists (select from pg_locks where pid = $1 and granted and relation = 'ack_state'::regclass) as ledger,
       (select state from pg_stat_activity where pid = $1 and xact_start is not null
            and wait_event = 'ClientRead') as state"""


@dataclass(frozen=True)
class Stopped:
    """A worker that stands still inside a transaction."""

    name: str
    pid: int
    backend: int
    since: float


@asynccontextmanager
async def connected(stack: Stack) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(stack.database_url, ssl=False)
    try:
        yield connection
    finally:
        await connection.close()


async def stop_inside(stack: Stack, gate: str, query: str, batch: dict[str, object] | None = None) -> Stopped:
    """Stop the worker that comes to wait behind `gate` in a statement like `query`, and let it have its lock.

    `batch` is what makes a worker come there, where the load alone does not.
    """
    async with connected(stack) as look, connected(stack) as holder:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute(gate)
        if batch is not None:
            await post(stack, batch)
        row = (await eventually(lambda: look.fetch(WAITING, query), 30))[0]
        worker = parse_worker_application(row["application_name"])
        assert worker is not None
        pid = stack.worker(worker[0])
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, 5)
        await transaction.rollback()

        async def stands() -> bool:
            state = await look.fetchrow(HOLDING, row["pid"])
            return bool(state["state"] in ("active", "idle in transaction"))

        await eventually(stands, 5)
        return Stopped(worker[0], pid, row["pid"], monotonic_s())


async def jobs_done(stack: Stack, worker: str) -> int:
    async with httpx.AsyncClient(base_url=stack.http, trust_env=False) as client:
        workers = (await client.get("/metrics/snapshot")).json()["workers"]
    return int(next((w["jobsDone"] for w in workers if w["id"] == worker), 0))


async def goes_on_without(stack: Stack, load: Load, stopped: Stopped) -> None:
    """All services are acknowledged further, by the other worker, while this one stands for over its lease."""
    await load.flows(30)
    await eventually(lambda: monotonic_s() - stopped.since > LEASE_S + 1, 10)
    await load.flows(10)
    async with connected(stack) as look:
        left = await look.fetchval("select count(*) from pg_stat_activity where pid = $1", stopped.backend)
    assert left == 0, "its connection was to be ended"
    assert psutil.Process(stopped.pid).status() == psutil.STATUS_STOPPED


async def is_found_behind_a_bystander(stack: Stack, stopped: Stopped) -> None:
    """Who waits behind somebody else's lock, who waits for the stopped worker, finds the worker as well."""
    async with connected(stack) as look, connected(stack) as bystander, connected(stack) as waiter:
        tasks = []
        for connection, mode in ((bystander, "share"), (waiter, "row exclusive")):
            tasks.append(asyncio.create_task(connection.execute(f"begin; lock table logs in {mode} mode")))
            pid = connection.get_server_pid()
            await eventually(lambda pid=pid: look.fetchval(BLOCKED, pid), 2)
        found = {row["pid"] for row in await look.fetch(SQL.blockers, waiter.get_server_pid())}
        assert {bystander.get_server_pid(), stopped.backend} <= found
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def wakes_cleanly(stack: Stack, load: Load, stopped: Stopped) -> None:
    """It finds its connection gone, starts anew and does its share again: the same process."""
    before = await jobs_done(stack, stopped.name)
    os.kill(stopped.pid, signal.SIGCONT)

    async def works() -> bool:
        return await jobs_done(stack, stopped.name) > before

    await eventually(works, 30)
    assert stack.worker(stopped.name) == stopped.pid
    await load.flows()


@pytest.mark.timeout(120)
async def test_stopped_inside_copy(stack: Stack, rng: random.Random) -> None:
    """More entries than one statement takes, in a month of their own, so that only they come to the gate."""
    entries = [{"seq": n, "message": f"message {n}", "ts": "2019-06-01T00:00:00Z"} for n in range(1, 301)]
    async with Load(stack, rng) as load:
        await post(stack, {"service": "first", "batch": entries[:1]})  # makes the partition
        await eventually(lambda: is_acknowledged(stack, "first", 1), 30)
        bulk = {"service": "bulk", "batch": entries}
        stopped = await stop_inside(stack, "lock table logs_2019_06 in share mode", "copy%", bulk)
        async with connected(stack) as look:
            assert (await look.fetchrow(HOLDING, stopped.backend))["ledger"]
        await is_found_behind_a_bystander(stack, stopped)
        await goes_on_without(stack, load, stopped)
        await eventually(lambda: is_acknowledged(stack, "bulk", 300), 10)
        await wakes_cleanly(stack, load, stopped)
        await load.settle()


@pytest.mark.timeout(120)
async def test_stopped_where_something_is_made(stack: Stack, rng: random.Random) -> None:
    """The ledger row of a new service, and the partition of a new month, are made in transactions of their own."""
    stream = f"insert into ack_state (tenant_id, numbering, epoch) values ('{ZERO_TENANT}', 'fresh', 0)"
    first = {"seq": 1, "message": "hello", "ts": "2019-05-01T00:00:00Z"}
    cases = (
        (stream, "%insert into ack_state%", {"service": "fresh", "batch": [{**first, "ts": None}]}),
        (SQL.partition_lock, "%advisory%", {"service": "old", "batch": [first]}),
    )
    async with Load(stack, rng) as load:
        for gate, query, batch in cases:
            stopped = await stop_inside(stack, gate, query, batch)
            await goes_on_without(stack, load, stopped)
            assert await ack_till(stack, str(batch["service"])) == 1
            await wakes_cleanly(stack, load, stopped)
        await load.settle()


async def post(stack: Stack, body: dict[str, object]) -> None:
    """Put a batch into the queue, without waiting for its commit."""
    async with httpx.AsyncClient(base_url=stack.http, trust_env=False) as client:
        answer = await client.post("/ingest", params={"acks": "queued"}, json=body)
    assert answer.status_code == 202


async def is_acknowledged(stack: Stack, service: str, till: int) -> bool:
    return await ack_till(stack, service) == till


async def ack_till(stack: Stack, service: str) -> int:
    async with httpx.AsyncClient(base_url=stack.http, trust_env=False) as client:
        answer = await client.get(f"/ack/{service}")
    return int(answer.json().get("ackTill", -1))
