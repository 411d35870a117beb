"""Who is woken for a job: one idle worker, and none where a busy one takes it along. On a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from apps.worker import arq_worker
from apps.worker.arq_worker import QueueWorker
from tests.eventually import eventually
from tracehub.protocol.messages import Mark
from tracehub.runtime.clock import now_ms
from tracehub.runtime.lifecycle import end
from tracehub.storage.redis import keys
from tracehub.storage.redis.connect import open_redis
from tracehub.storage.redis.jobs import STORE
from tracehub.storage.redis.line import Line
from tracehub.storage.redis.listening import listen
from tracehub.storage.redis.queue import TAKE_ALONG_ENTRIES_MAX, RedisQueue

QUEUE = keys.QUEUE_LOGS
ALOUD = keys.wake(QUEUE)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    made = open_redis(redis_url)
    yield made
    await made.aclose()


@asynccontextmanager
async def hearing(redis_url: str, *channels: str) -> AsyncIterator[list[str]]:
    """What is said on these channels, in order."""
    heard: list[str] = []
    subscribed = asyncio.Event()
    ears = open_redis(redis_url, timeout_s=None)
    handlers = {name: lambda _, name=name: heard.append(name) for name in channels}
    task = asyncio.create_task(listen(ears, handlers, subscribed.set))
    await subscribed.wait()
    yield heard
    await end([task])
    await ears.aclose()


def one(name: str) -> str:
    return keys.wake_one(QUEUE, name)


async def put(client: Redis, job_id: str, entries: int = 1) -> None:
    await RedisQueue(client).enqueue(job_id, b"", Mark((), entries, 1, now_ms()), now_ms())


async def test_who_fell_idle_last_is_woken_and_nobody_else(client: Redis, redis_url: str) -> None:
    async with hearing(redis_url, ALOUD, one("early"), one("late")) as heard:
        await client.zadd(keys.idle(QUEUE), {"early": 1, "late": 2})
        await put(client, "a", TAKE_ALONG_ENTRIES_MAX)
        await eventually(lambda: heard == [one("late")])
        await put(client, "b")
        await eventually(lambda: heard == [one("late"), one("early")])
        assert not await client.exists(keys.idle(QUEUE))


async def test_name_that_nobody_listens_to_is_forgotten(client: Redis, redis_url: str) -> None:
    async with hearing(redis_url, ALOUD, one("here")) as heard:
        await client.zadd(keys.idle(QUEUE), {"here": 1, "dead": 2})
        await put(client, "a")
        await eventually(lambda: heard == [one("here")])


async def test_all_hear_it_when_nobody_is_idle(client: Redis, redis_url: str) -> None:
    async with hearing(redis_url, ALOUD) as heard:
        await client.zadd(keys.idle(QUEUE), {"dead": 2})
        await put(client, "a")
        await eventually(lambda: heard == [ALOUD])


async def test_small_job_beside_another_wakes_nobody(client: Redis, redis_url: str) -> None:
    """As long as all that is in flight is one worker's work."""
    async with hearing(redis_url, ALOUD, one("x"), one("y")) as heard:
        await client.zadd(keys.idle(QUEUE), {"x": 2, "y": 1})
        await put(client, "a")
        await put(client, "b", TAKE_ALONG_ENTRIES_MAX - 1)
        await put(client, "c")
        await eventually(lambda: heard == [one("x"), ALOUD, one("y")])


@asynccontextmanager
async def working(redis_url: str, name: str, running: dict[str, asyncio.Event]) -> AsyncIterator[QueueWorker]:
    """A worker whose jobs last until their event, by the worker's name, is set."""

    async def work(_: dict[str, Any], body: bytes) -> bool:
        await running.setdefault(name, asyncio.Event()).wait()
        return False

    connections = open_redis(redis_url)
    ears = open_redis(redis_url, timeout_s=None)
    worker = QueueWorker(
        QUEUE,
        {STORE: work},
        name=name,
        line=Line(connections),
        context={},
        health_key=f"health:{name}",
        lease_s=5,
    )
    subscribed = asyncio.Event()
    tasks = [
        asyncio.create_task(listen(ears, worker.channels(), subscribed.set)),
        asyncio.create_task(worker.run_until_stopped()),
    ]
    await subscribed.wait()
    yield worker
    worker.stop()
    await tasks[1]
    await end(tasks)
    for made in (connections, ears):
        await made.aclose()


@pytest.fixture
def never_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens, happens because somebody was woken."""
    monkeypatch.setattr(arq_worker, "POLL_S", 1_000.0)


async def _idle(client: Redis) -> set[str]:
    return {name.decode() for name in await client.zrange(keys.idle(QUEUE), 0, -1)}


@pytest.mark.usefixtures("never_polls")
async def test_worker_is_idle_from_its_first_empty_look_until_its_end(client: Redis, redis_url: str) -> None:
    running: dict[str, asyncio.Event] = {}
    async with working(redis_url, "x", running):
        await eventually(lambda: _is_idle(client, "x"))
        await put(client, "a")
        await eventually(lambda: "x" in running)
        assert await _idle(client) == set()
        running["x"].set()
        await eventually(lambda: _is_idle(client, "x"))
    assert await _idle(client) == set()


@pytest.mark.usefixtures("never_polls")
async def test_job_that_nobody_was_woken_for_is_taken_after_the_last(client: Redis, redis_url: str) -> None:
    """Who is busy looks again by itself: here the word that was said aloud is kept from it."""
    running: dict[str, asyncio.Event] = {}
    async with working(redis_url, "x", running) as worker:
        await eventually(lambda: _is_idle(client, "x"))
        await put(client, "a")
        await eventually(lambda: "x" in running)
        worker.hear = lambda: None  # type: ignore[method-assign]
        await put(client, "b")
        running["x"].set()
        await eventually(lambda: _none_left(client))


@pytest.mark.usefixtures("never_polls")
async def test_idle_worker_takes_a_small_job_that_the_busy_one_leaves(client: Redis, redis_url: str) -> None:
    """As when the busy one has died, or stands still."""
    running: dict[str, asyncio.Event] = {}
    async with working(redis_url, "idle", running):
        await eventually(lambda: _is_idle(client, "idle"))
        await client.set(keys.in_progress("elsewhere"), b"1")
        await put(client, "elsewhere")
        await eventually(lambda: _is_idle(client, "idle"))
        await put(client, "a")
        await eventually(lambda: "idle" in running)
        running["idle"].set()


async def _is_idle(client: Redis, name: str) -> bool:
    return name in await _idle(client)


async def _none_left(client: Redis) -> bool:
    return await client.zcard(QUEUE) == 0
