"""Faults on purpose, queues without a worker, and stores that are away: what clients are told (ingest.md §2, §8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
import httpx
import redis

from tests.eventually import eventually
from tests.integration.asking import assert_refused, batch
from tests.integration.conftest import Deployment
from tracehub.runtime.embedded.ports import free_port
from tracehub.storage.postgres.connect import worker_application
from tracehub.storage.redis import keys


async def one(backend_url: str, method: str, path: str, body: Any = None) -> httpx.Response:
    """One request to another backend than the shared one."""
    async with httpx.AsyncClient(base_url=backend_url, trust_env=False, timeout=30) as speaking:
        return await speaking.request(method, path, json=body)


async def test_faults_need_to_be_allowed(deploy: Callable[..., Deployment]) -> None:
    url = deploy(faults=0).backend().url
    assert_refused(await one(url, "POST", "/metrics/control", {"action": "reset"}), 403, "forbidden")
    assert (await one(url, "GET", "/metrics/control")).json() == {"enabled": False, "faults": []}


async def test_dropped_network_and_delayed_acks(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy()
    deployment.both()
    url = deployment.url
    await one(url, "POST", "/metrics/control", {"action": "drop_network", "seconds": 60})
    assert_refused(await one(url, "POST", "/ingest", batch("a", 1)), 503, "network_dropped")
    await one(url, "POST", "/metrics/control", {"action": "reset"})
    assert (await one(url, "POST", "/ingest", batch("a", 1))).json()["ackTill"] == 1
    await one(url, "POST", "/metrics/control", {"action": "delay_ack", "seconds": 60})
    answer = await one(url, "POST", "/ingest", batch("a", 2))
    assert answer.elapsed.total_seconds() >= 3
    assert (answer.status_code, answer.json()["ackTill"]) == (200, 2)


async def test_without_a_worker_batches_wait_and_are_told_so(deploy: Callable[..., Deployment]) -> None:
    """202 after ack_timeout, 429 when the queue is full, 503 when it is flushed, stored in the end."""
    deployment = deploy(ack_timeout_s=0.7, queue_entries_max=5)
    url = deployment.backend().url
    answer = await one(url, "POST", "/ingest", batch("a", 1, 2, 3))
    told = answer.json()
    assert (answer.status_code, told["status"], told["queued"], told["ackTill"]) == (202, "queued", 3, 0)
    assert 0.6 <= answer.elapsed.total_seconds() < 3
    # Nothing is committed yet: what is known of the service comes from its mark.
    assert told["highestSeen"] == 3
    known = (await one(url, "GET", "/ack/a")).json()
    assert (known["ackTill"], known["highestSeen"], known["inFlight"]) == (0, 3, 3)
    assert (await one(url, "GET", "/sequence/a")).json()["inFlight"] == [[1, 3]]
    assert_refused(await one(url, "POST", "/ingest", batch("a", 4, 5, 6)), 429, "overloaded")
    assert_refused(await one(url, "POST", "/ingest?acks=queued", batch("a", 4, 5, 6)), 429, "overloaded")
    depth = (await one(url, "GET", "/metrics/snapshot")).json()["queue"]["logs"]["depth"]
    assert depth == 3

    async def flushed_while_waiting() -> httpx.Response:
        waiting = asyncio.ensure_future(one(url, "POST", "/ingest", batch("b", 1)))

        async def is_queued() -> bool:
            with redis.Redis.from_url(deployment.queue_url) as client:
                return client.zcard(keys.QUEUE_LOGS) == 2

        await eventually(is_queued)
        told = (await one(url, "POST", "/metrics/control", {"action": "flush_queue"})).json()
        assert told == {"action": "flush_queue", "active": False, "until": None}
        return await waiting

    assert_refused(await flushed_while_waiting(), 503, "unavailable")
    with redis.Redis.from_url(deployment.queue_url) as client:
        assert (client.zcard(keys.QUEUE_LOGS), client.hlen(keys.INFLIGHT_INDEX)) == (0, 0)
    answer = await one(url, "POST", "/ingest?acks=queued", batch("a", 1, 2, 3))
    assert answer.status_code == 202
    deployment.worker()

    async def is_stored() -> bool:
        return (await one(url, "GET", "/ack/a")).json().get("ackTill") == 3

    await eventually(is_stored, 10)


async def test_batches_that_overtake_each_other_in_flight_make_no_gap(
    deploy: Callable[..., Deployment],
) -> None:
    """The highest numbers are first in the queue; no reply calls the others missing."""
    deployment = deploy(ack_timeout_s=30)
    url = deployment.backend().url
    with redis.Redis.from_url(deployment.queue_url) as client:
        waiting = []
        for first in range(1_900, -1, -100):
            body = batch("a", *range(first + 1, first + 101))
            waiting.append(asyncio.ensure_future(one(url, "POST", "/ingest", body)))
            entries = 100 * len(waiting)
            await eventually(lambda e=entries: int(client.hget(keys.INFLIGHT_TOTALS, "entries") or 0) == e)
        deployment.worker()
        replies = [(await reply).json() for reply in waiting]
    assert {(r["missingCount"], r["status"], r["accepted"]) for r in replies} == {(0, "ok", 100)}
    assert max(r["ackTill"] for r in replies) == 2_000
    assert (await one(url, "GET", "/replay")).json()["total"] == 0


async def test_a_job_that_nobody_can_read_is_refused_and_goes(deploy: Callable[..., Deployment]) -> None:
    """A body damaged in Redis: its waiter is told, its mark goes, and what is behind it is stored."""
    deployment = deploy(ack_timeout_s=20)
    url = deployment.backend().url
    waiting = asyncio.ensure_future(one(url, "POST", "/ingest", batch("a", 1)))
    with redis.Redis.from_url(deployment.queue_url) as client:
        await eventually(lambda: client.zcard(keys.QUEUE_LOGS) == 1)
        (job,) = client.zrange(keys.QUEUE_LOGS, 0, 0)
        body = keys.job_body(job.decode())
        whole = client.get(body)
        assert isinstance(whole, bytes)
        client.set(body, whole.replace(b"message 1", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
        deployment.worker()
        assert_refused(await waiting, 503, "unavailable")
        await eventually(lambda: client.hlen(keys.INFLIGHT_INDEX) == 0, 10)
    assert (await one(url, "POST", "/ingest", batch("a", 1, 2))).json()["ackTill"] == 2


async def test_queue_out_of_memory_is_overload(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy()
    deployment.both()
    with redis.Redis.from_url(deployment.queue_url) as client:
        client.config_set("maxmemory", "1")
        assert_refused(await one(deployment.url, "POST", "/ingest", batch("a", 1)), 429, "overloaded")
        client.config_set("maxmemory", "1gb")
    assert (await one(deployment.url, "POST", "/ingest", batch("a", 1))).json()["ackTill"] == 1


async def test_no_redis_is_unavailable(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy()
    part = deployment.begin_backend(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    await eventually(lambda: answers(part.url), 30)
    health = await one(part.url, "GET", "/health")
    assert (health.status_code, health.json()["redis"], health.json()["postgres"]) == (503, "down", "up")
    for method, path, body in (
        ("POST", "/ingest", batch("a", 1)), ("POST", "/ingest?acks=queued", batch("a", 1)),
        ("GET", "/metrics/snapshot", None), ("GET", "/services", None), ("GET", "/proof", None),
    ):  # fmt: skip
        assert_refused(await one(part.url, method, path, body), 503, "unavailable")
    assert (await one(part.url, "GET", "/metrics")).status_code == 200


async def test_no_postgres_is_unavailable(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(ack_timeout_s=1.5)
    part = deployment.begin_backend(database_url=f"postgresql://x@127.0.0.1:{free_port()}/x")
    await eventually(lambda: answers(part.url), 30)
    health = await one(part.url, "GET", "/health")
    assert (health.status_code, health.json()["redis"], health.json()["postgres"]) == (503, "up", "down")
    ready = await one(part.url, "GET", "/ready")
    assert (ready.status_code, ready.headers["retry-after"]) == (503, "1")
    for method, path, body in (
        ("GET", "/ack/a", None), ("GET", "/metrics/snapshot", None), ("GET", "/services", None),
        ("GET", "/proof", None), ("GET", "/replay", None), ("GET", "/dead-letters", None),
        ("POST", "/replay", {"service": "a", "from": 1, "to": 2}), ("POST", "/ingest", batch("a", 1)),
    ):  # fmt: skip
        assert_refused(await one(part.url, method, path, body), 503, "unavailable")


async def test_what_cannot_be_settled_is_settled_later(deploy: Callable[..., Deployment]) -> None:
    """It is committed, so it is acknowledged; others are stored meanwhile; and it is stored once."""
    deployment = deploy()
    deployment.both()
    url = deployment.url
    with redis.Redis.from_url(deployment.queue_url) as client:
        client.set(keys.generation(keys.ZERO_TENANT), "no hash: what settles jobs fails")
        for number in (1, 2):
            answer = await one(url, "POST", "/ingest", batch("a", number))
            assert (answer.status_code, answer.json()["ackTill"]) == (200, number)
        assert (client.zcard(keys.QUEUE_LOGS), client.hlen(keys.INFLIGHT_INDEX)) == (2, 2)
        client.delete(keys.generation(keys.ZERO_TENANT))
        await eventually(
            lambda: not client.zcard(keys.QUEUE_LOGS) and not client.hlen(keys.INFLIGHT_INDEX), 10
        )
        told = (client.xlen(keys.COMMITS), client.hget(keys.generation(keys.ZERO_TENANT), "n"))
        assert told == (2, b"2"), "each commit is told to those who follow, and to remembered answers"
    connection = await asyncpg.connect(deployment.database, ssl=False)
    assert await connection.fetchval("select array_agg(seq order by seq) from logs") == [1, 2]
    await connection.close()
    proof = (await one(url, "GET", "/proof")).json()
    assert (proof["balanced"], proof["totals"]["stored"]) == (True, 2)


async def test_a_lock_that_stands_is_told_or_freed(deploy: Callable[..., Deployment]) -> None:
    """Whoever holds a ledger row, nobody waits for ever; a worker without a heartbeat has it taken away, also when
    those who wait hold all connections of their kind."""
    deployment = deploy(db_max_open_conns=8)
    deployment.both()
    url, replay = deployment.url, {"service": "a", "from": 1, "to": 2}
    await one(url, "POST", "/ingest", batch("a", 1, 2))
    async with holding_the_ledger(deployment, "somebody"):
        assert_refused(await one(url, "POST", "/replay", replay), 503, "unavailable")
    async with holding_the_ledger(deployment, worker_application("gone", "1234")) as holder:
        told = await asyncio.gather(*(one(url, "POST", "/replay", replay) for _ in range(12)))
        assert {answer.status_code for answer in told} == {202}
        await eventually(holder.is_closed)


@asynccontextmanager
async def holding_the_ledger(deployment: Deployment, application: str) -> AsyncIterator[asyncpg.Connection]:
    """All rows of the ledger are locked by a connection of this name."""
    holder = await asyncpg.connect(
        deployment.database, ssl=False, server_settings={"application_name": application}
    )
    try:
        await holder.execute("begin; select from ack_state for update")
        yield holder
    finally:
        holder.terminate()


async def answers(url: str) -> bool:
    try:
        return (await one(url, "GET", "/live")).status_code == 200
    except httpx.TransportError:
        return False


async def test_reset_clears_counters_and_keeps_logs(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy()
    deployment.both()
    url = deployment.url
    for _ in range(2):
        await one(url, "POST", "/ingest", batch("a", 1, 2))
    await one(url, "POST", "/ingest", batch("a", 4))
    (row,) = (await one(url, "GET", "/replay")).json()["replays"]
    await one(url, "POST", f"/replay/{row['id']}/abandon", {})
    before = (await one(url, "GET", "/metrics/snapshot")).json()
    assert before["totals"]["duplicates"] == 2
    await one(url, "POST", "/metrics/control", {"action": "reset"})

    async def is_clear() -> bool:
        told = (await one(url, "GET", "/metrics/snapshot")).json()
        assert (told["totals"]["duplicates"], told["totals"]["received"]) == (0, 0)
        assert told["replays"] == {"pending": 0, "running": 0, "completed": 0, "lost": 0}
        return told["totals"]["stored"] == 3

    await eventually(is_clear)
    assert datetime.fromisoformat(before["ts"])
    assert (await one(url, "GET", "/ack/a")).json()["ackTill"] == 4
