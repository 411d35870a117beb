"""The one timing that is asserted: a crashed worker's jobs are stored within 10 s (ingest.md §3)."""

from __future__ import annotations

import asyncio
import os
import random
import signal

import asyncpg
import httpx
import pytest

from tests.e2e.load import Load
from tests.e2e.stack import Stack
from tests.eventually import eventually
from tracehub.runtime.clock import monotonic_s
from tracehub.storage.redis import keys

STORED_WITHIN_S = 10.0
LIGHT = {"pause_s": 0.2, "batch_entries": 10, "sdk_pause_s": 0.2}  # some 200 entries a second: a few percent
SERVICES = [f"own-{n}" for n in range(3)]
STORING = """
select count(*) from pg_stat_activity where application_name like 'tracehub-worker:worker-1:%'
    and wait_event_type = 'Lock' and (query ilike 'copy%' or query ilike '%incoming as (%')"""
STORED = "select count(*) from logs where service like 'own-%'"


@pytest.mark.timeout(90)
async def test_crashed_workers_jobs_are_stored_soon(stack: Stack, rng: random.Random) -> None:
    """Jobs that nobody sends again, held by a worker that is storing them when it is killed with -9.

    To make certain who holds them, the other worker stands still until the crash.
    """
    victim, other = await stack.is_back("worker-1"), await stack.is_back("worker-2")
    async with Load(stack, rng, **LIGHT) as load:
        look = await asyncpg.connect(stack.database_url, ssl=False)
        holder = await asyncpg.connect(stack.database_url, ssl=False)
        try:
            os.kill(other, signal.SIGSTOP)
            transaction = holder.transaction()
            await transaction.start()
            await holder.execute("lock table logs in share mode")
            await asyncio.gather(*(_queue(stack, service) for service in SERVICES))
            await eventually(lambda: _claimed(stack), 10)
            await eventually(lambda: look.fetchval(STORING), 10)
            os.kill(victim, signal.SIGKILL)
            os.kill(other, signal.SIGCONT)
            begin = monotonic_s()
            await transaction.rollback()

            async def all_stored() -> bool:
                return await look.fetchval(STORED) == len(SERVICES)

            await eventually(all_stored, 60)
            took = monotonic_s() - begin
            assert took <= STORED_WITHIN_S, f"stored after {took:.1f} s"
        finally:
            await look.close()
            await holder.close()
        await load.settle()


async def _queue(stack: Stack, service: str) -> None:
    body = {"service": service, "batch": [{"seq": 1, "message": "sent once"}]}
    async with httpx.AsyncClient(base_url=stack.http, trust_env=False) as client:
        answer = await client.post("/ingest", params={"acks": "queued"}, json=body)
    assert answer.status_code == 202


def _claimed(stack: Stack) -> bool:
    """Whether a worker has a lease on every job that holds an entry of ours."""
    with stack.queue() as queue:
        ids = [job.decode() for job in queue.hkeys(keys.INFLIGHT_INDEX)]
        ours = [job for job in ids if b"own-" in (queue.get(keys.inflight(job)) or b"")]
        return bool(ours) and all(queue.exists(keys.in_progress(job)) for job in ours)
