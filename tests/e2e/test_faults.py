"""Every fault of ingest.md §8, fired over HTTP under load: what is told, what happens, and that nothing is lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import redis

from tests.e2e.load import Load
from tests.e2e.stack import Stack
from tests.e2e.viewer import Viewer
from tests.eventually import eventually
from tracehub.runtime.clock import monotonic_s
from tracehub.storage.redis import keys

PROMPTLY_S = 2.0  # well below ack_timeout, which is 5 s


def seconds_left(until: str) -> float:
    moment = datetime.fromisoformat(until)
    assert moment.utcoffset() == timedelta(0)
    return (moment - datetime.now(UTC)).total_seconds()


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.timeout(90)
async def test_crash_worker(stack: Stack, rng: random.Random) -> None:
    before = {name: stack.worker(name) for name in ("worker-1", "worker-2")}
    async with Load(stack, rng) as load, Viewer(stack.http) as viewer:
        told = await viewer.control({"action": "crash_worker"})
        assert (told["action"], told["active"]) == ("crash_worker", True)
        assert 3 < seconds_left(told["until"]) <= 5
        assert await viewer.on() == ["crash_worker"]
        started = await viewer.hears("sim:control", action="crash_worker", active=True, until=told["until"])
        victim = started["parameters"]["worker"]
        crashed = await viewer.hears("worker:crashed", worker=victim)
        assert crashed["recoversInMs"] == 5_000
        assert seconds_left(crashed["at"]) <= 0
        await load.flows(10)
        recovered = await viewer.hears("worker:recovered", 30, worker=victim)
        assert recovered["downMs"] >= 5_000
        await viewer.hears("sim:control", 10, action="crash_worker", active=False)
        assert await viewer.on() == []
        names = [name for name, data in viewer.heard if data.get("worker") == victim]
        assert names == ["worker:crashed", "worker:recovered"]
        after = {name: stack.worker(name) for name in before}
        assert {name for name in before if before[name] != after[name]} == {victim}
        await load.settle()


@pytest.mark.timeout(120)
async def test_drop_network_and_delay_ack(stack: Stack, rng: random.Random) -> None:
    async with Load(stack, rng) as load, Viewer(stack.http) as viewer:
        await drop_network(load, viewer)
        await delay_ack(load, viewer)
        await load.settle()


async def drop_network(load: Load, viewer: Viewer) -> None:
    """`/ingest` alone is refused, for as long as was asked; `control` is another name of `action`."""
    told = await viewer.control({"control": "drop-network", "seconds": 3})
    assert (told["action"], told["active"]) == ("drop_network", True)
    assert 1 < seconds_left(told["until"]) <= 3
    await viewer.hears("sim:control", action="drop_network", active=True)
    answer = await viewer.ingest("mine", 1)
    assert refusal(answer) == (503, "network_dropped")
    assert int(answer.headers["retry-after"]) >= 1
    assert await viewer.ack_till("raw-0") > 0
    await viewer.hears("sim:control", 10, action="drop_network", active=False)
    assert await viewer.on() == []
    assert (await viewer.ingest("mine", 1)).json()["ackTill"] == 1
    await load.flows(30)


async def delay_ack(load: Load, viewer: Viewer) -> None:
    """The ACK is late; the commit is not, and a delay of 3 s does not use up the time for it."""
    assert 28 < seconds_left((await viewer.control({"command": "delay_ack"}))["until"]) <= 30
    begin = monotonic_s()
    late = asyncio.create_task(viewer.ingest("mine", 2))

    async def is_committed() -> bool:
        return await viewer.ack_till("mine") == 2

    await eventually(is_committed, 3)
    assert not late.done()
    answer = await late
    assert (answer.status_code, answer.json()["ackTill"]) == (200, 2)
    assert monotonic_s() - begin >= 3
    await viewer.control({"action": "delay_ack", "seconds": 1})
    await viewer.hears("sim:control", 10, action="delay_ack", active=False)
    await load.flows(30)


@pytest.mark.timeout(90)
async def test_flush_queue(stack: Stack, rng: random.Random) -> None:
    """What waits goes, in both queues; who waits for it is told at once; producers make it good."""
    workers = [await stack.is_back(name) for name in ("worker-1", "worker-2")]
    async with Load(stack, rng) as load, Viewer(stack.http) as viewer:
        # A service that is at rest: a stopped worker may hold the ledger rows of those that are not.
        assert (await viewer.ingest("still", 1)).json()["ackTill"] == 1
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        waiters = [asyncio.create_task(viewer.ingest(f"mine-{n}", 1)) for n in range(3)]
        replay = await viewer.http.post("/replay", json={"service": "still", "from": 1, "to": 2})
        assert replay.status_code == 202
        with stack.queue() as queue:
            await eventually(
                lambda: all(name in marks(queue) for name in (b"mine-0", b"mine-1", b"mine-2")), 5
            )
            told = await viewer.control({"action": "flush_queue"})
            assert told == {"action": "flush_queue", "active": False, "until": None}
            event = await viewer.hears("sim:control", action="flush_queue", active=False)
            assert event["parameters"]["jobs"] >= 2
            answers = await asyncio.wait_for(asyncio.gather(*waiters), PROMPTLY_S)
            assert {refusal(answer) for answer in answers} == {(503, "unavailable")}
            assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        await load.flows(30)
        answers = [await viewer.ingest(f"mine-{n}", 1) for n in range(3)]
        assert [answer.json()["accepted"] for answer in answers] == [1, 1, 1]
        await load.settle()


def marks(queue: redis.Redis) -> bytes:
    """All in-flight marks, as one text to look for services in."""
    ids = [job.decode() for job in queue.hkeys(keys.INFLIGHT_INDEX)]
    return b"".join(filter(None, queue.mget([keys.inflight(job) for job in ids]))) if ids else b""


@pytest.mark.timeout(90)
async def test_reset_and_refusals(stack: Stack, rng: random.Random) -> None:
    """Faults end and counters go, logs and ledger stay; and who may not control is refused."""
    async with Load(stack, rng) as load, Viewer(stack.http) as viewer:
        await load.settle()
        replay = await viewer.http.post("/replay", json={"service": "raw-0", "from": 1, "to": 2})
        assert replay.status_code == 202
        await viewer.hears("replay:completed", 20, id=replay.json()["id"])
        for action in ("drop_network", "delay_ack"):
            await viewer.control({"action": action})
        assert await viewer.on() == ["delay_ack", "drop_network"]
        ledger = await viewer.ack_till("raw-0")

        assert await viewer.control({"action": "reset"}) == {
            "action": "reset",
            "active": False,
            "until": None,
        }
        for action in ("drop_network", "delay_ack", "reset"):
            await viewer.hears("sim:control", action=action, active=False)
        assert await viewer.on() == []
        assert (await viewer.ingest("mine", 1)).json()["ackTill"] == 1
        assert (await viewer.http.get("/replay", params={"status": "completed"})).json()["total"] == 0
        assert await viewer.ack_till("raw-0") == ledger

        async def counters_are_cleared() -> bool:
            totals = (await viewer.http.get("/metrics/snapshot")).json()["totals"]
            assert totals["stored"] > ledger
            return bool(totals["received"] == 1)

        await eventually(counters_are_cleared, 5)
        await _refuses(viewer)


async def _refuses(viewer: Viewer) -> None:
    route, body = "/metrics/control", {"action": "drop_network"}
    for bad in ({"action": "explode"}, {"action": "drop_network", "seconds": 0}, {"action": 7}, {}):
        assert refusal(await viewer.http.post(route, json=bad)) == (400, "invalid_field")
    for headers, expected in (
        ({"Content-Type": "text/plain"}, (415, "unsupported_type")),
        ({"Content-Type": "application/json", "Origin": "http://elsewhere.example"}, (403, "forbidden")),
        ({"Content-Type": "application/json", "Host": "elsewhere.example"}, (403, "forbidden")),
    ):
        answer = await viewer.http.post(route, content=b'{"action": "drop_network"}', headers=headers)
        assert refusal(answer) == expected
    assert await viewer.on() == []
    assert (await viewer.control({**body, "seconds": 1}))["active"]
