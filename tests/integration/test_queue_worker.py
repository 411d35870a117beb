"""The worker of one arq queue, on a real Valkey: who takes a job, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from arq.worker import Retry
from redis.asyncio import Redis

from apps.worker.arq_worker import JOBS_MAX, QueueWorker
from tests.eventually import eventually
from tracehub.runtime.clock import now_ms
from tracehub.runtime.lifecycle import end
from tracehub.storage.redis import keys
from tracehub.storage.redis.connect import open_redis
from tracehub.storage.redis.jobs import pack
from tracehub.storage.redis.line import Line

QUEUE = keys.QUEUE_LOGS
LEASE_S = 2

Function = Callable[[dict[str, Any], bytes], Coroutine[Any, Any, bool]]


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    made = open_redis(redis_url)
    yield made
    await made.aclose()


@asynccontextmanager
async def working(redis_url: str, function: Function, name: str = "w") -> AsyncIterator[QueueWorker]:
    connections = open_redis(redis_url)
    worker = QueueWorker(
        QUEUE,
        {"work": function},
        name=name,
        line=Line(connections),
        context={"name": name},
        health_key=f"health:{name}",
        lease_s=LEASE_S,
    )
    task = asyncio.create_task(worker.run_until_stopped())
    yield worker
    worker.stop()
    await end([task])
    await connections.aclose()


async def put(client: Redis, *names: str, body: bytes | None = None) -> None:
    for name in names:
        await client.set(keys.job_body(name), body if body is not None else pack("work", name.encode(), 0))
        await client.zadd(QUEUE, {name: now_ms() - 1_000})


async def left(client: Redis) -> set[str]:
    """Everything in Redis but signs of life."""
    return {key.decode() for key in await client.keys("*") if not key.startswith((b"health:", b"idle:"))}


async def test_finished_job_leaves_nothing(client: Redis, redis_url: str) -> None:
    """A function that does not end its job has it ended."""
    seen: list[bytes] = []

    async def work(_: dict[str, Any], body: bytes) -> bool:
        seen.append(body)
        return False

    await put(client, "a", "b", "c")
    async with working(redis_url, work):
        await eventually(lambda: sorted(seen) == [b"a", b"b", b"c"])
        await eventually(lambda: _nothing(client))


async def _nothing(client: Redis) -> bool:
    return await left(client) == set()


async def test_function_that_ended_its_job_is_believed(client: Redis, redis_url: str) -> None:
    """True: the job was taken out of the queue by the function; nothing more is done to it."""
    ended = asyncio.Event()

    async def work(_: dict[str, Any], body: bytes) -> bool:
        await client.delete(keys.job_body("a"), keys.in_progress("a"))
        await client.zrem(QUEUE, "a")
        await put(client, "b", body=b"")  # a trace of what happens after
        ended.set()
        return True

    await put(client, "a")
    async with working(redis_url, work):
        await asyncio.wait_for(ended.wait(), 5)
        await eventually(lambda: _nothing(client))  # a job whose body has gone ends, too


async def test_retry_waits_and_frees_the_lease(client: Redis, redis_url: str) -> None:
    """Retry(defer): due later, leased by nobody."""
    tries: list[int] = []

    async def work(_: dict[str, Any], body: bytes) -> bool:
        tries.append(now_ms())
        if len(tries) == 1:
            raise Retry(defer=1.5)
        return False

    await put(client, "a")
    async with working(redis_url, work):
        await eventually(lambda: len(tries) == 1)
        await eventually(lambda: _free(client, "a"))
        await eventually(lambda: len(tries) == 2)
        assert tries[1] - tries[0] >= 1_500
        await eventually(lambda: _nothing(client))


async def _free(client: Redis, job: str) -> bool:
    return (await client.zscore(QUEUE, job)) is not None and not await client.exists(keys.in_progress(job))


async def test_job_taken_away_while_it_runs_stays_away(client: Redis, redis_url: str) -> None:
    """A flush beats a retry: the job does not come back without its body."""
    running, flushed = asyncio.Event(), asyncio.Event()

    async def work(_: dict[str, Any], body: bytes) -> bool:
        running.set()
        await flushed.wait()
        raise Retry(defer=1)

    await put(client, "a")
    async with working(redis_url, work):
        await asyncio.wait_for(running.wait(), 5)
        await client.delete(keys.job_body("a"))
        await client.zrem(QUEUE, "a")
        flushed.set()
        await eventually(lambda: _nothing(client))


async def test_damaged_job_is_dropped(client: Redis, redis_url: str) -> None:
    """Bytes that are no job, or name no function, end; the next one runs."""
    seen: list[bytes] = []

    async def work(_: dict[str, Any], body: bytes) -> bool:
        seen.append(body)
        return False

    await put(client, "noise", body=b"\xc1\xff")
    await put(client, "stranger", body=pack("nobody", b"", 0))
    await put(client, "good")
    async with working(redis_url, work):
        await eventually(lambda: seen == [b"good"])
        await eventually(lambda: _nothing(client))


async def test_two_workers_share_two_jobs(client: Redis, redis_url: str) -> None:
    """Who has work lets go first who has none."""
    took: list[str] = []
    both = asyncio.Event()

    async def work(ctx: dict[str, Any], body: bytes) -> bool:
        took.append(ctx["name"])
        await both.wait()
        return False

    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(working(redis_url, work, name)) for name in ("x", "y")]
        await put(client, "a", "b")
        for worker in workers:
            worker.wake()
        await eventually(lambda: len(took) == 2)
        both.set()
        assert sorted(took) == ["x", "y"]


async def test_busy_worker_takes_what_nobody_else_takes(client: Redis, redis_url: str) -> None:
    """Alone it fills its slots, leases no more than it runs, and goes on when one ends."""
    running: list[bytes] = []
    go = asyncio.Event()

    async def work(_: dict[str, Any], body: bytes) -> bool:
        running.append(body)
        await go.wait()
        return False

    names = [f"job-{n:02}" for n in range(JOBS_MAX + 3)]
    await put(client, *names)
    async with working(redis_url, work):
        await eventually(lambda: len(running) == JOBS_MAX)
        assert len(await client.keys(keys.in_progress("*"))) == JOBS_MAX
        go.set()
        await eventually(lambda: len(running) == len(names))
        await eventually(lambda: _nothing(client))


async def test_lease_is_renewed_while_the_job_runs(client: Redis, redis_url: str) -> None:
    """A job may take longer than its lease; nobody else starts it."""
    starts: list[str] = []
    go = asyncio.Event()

    async def work(ctx: dict[str, Any], body: bytes) -> bool:
        starts.append(ctx["name"])
        await go.wait()
        return False

    await put(client, "a")
    began = now_ms()
    async with working(redis_url, work, "x"), working(redis_url, work, "y"):
        await eventually(lambda: now_ms() - began > 1_500 * LEASE_S, timeout=10)
        assert len(starts) == 1
        go.set()
        await eventually(lambda: _nothing(client))
