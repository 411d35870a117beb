"""Socket.IO as viewers have it (ingest.md §7), with the real client over websocket and polling."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import pairwise
from typing import Any

import httpx
import pytest
import redis
import socketio
from engineio.payload import Payload

from tests.eventually import eventually
from tests.integration.asking import batch
from tests.integration.conftest import Deployment, Part
from tracehub.storage.redis import keys

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
LIVE_MAX = 500


Payload.max_decode_packets = 1_000  # this client takes 16 at most in one poll, browsers take any number


class Viewer:
    """A client that writes down everything it hears."""

    def __init__(self) -> None:
        self.client = socketio.AsyncClient(reconnection_delay=0.1, reconnection_delay_max=0.5)
        self.heard: list[tuple[str, Any, float]] = []
        self.client.on("*", self._hear)

    async def _hear(self, event: str, payload: Any) -> None:
        self.heard.append((event, payload, time.monotonic()))

    def of(self, event: str, service: str | None = None) -> list[Any]:
        """Payloads of one event, of one service if it is given."""
        return [p for e, p, _ in self.heard if e == event and (service is None or p["service"] == service)]

    def seqs(self, service: str) -> list[int]:
        return [p["seq"] for p in self.of("log:new", service)]


@asynccontextmanager
async def viewing(url: str, *transports: str) -> AsyncIterator[Viewer]:
    viewer = Viewer()
    await viewer.client.connect(url, transports=list(transports) or ["websocket"], wait_timeout=10)
    try:
        yield viewer
    finally:
        await leave(viewer.client)


async def leave(client: socketio.AsyncClient) -> None:
    """Disconnect at once; the library itself would wait for the last long poll to end."""
    loops = [task for task in (client.eio.read_loop_task, client.eio.write_loop_task) if task]
    await client.shutdown() if client.transport() == "websocket" else None
    await client.eio.disconnect(abort=True)
    for task in loops:
        task.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
    if client.eio.http is not None:
        await client.eio.http.close()


async def send(url: str, body: dict[str, Any]) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as speaking:
        answer = await speaking.post("/ingest", json=body)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told


async def post(url: str, path: str, body: dict[str, Any]) -> httpx.Response:
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as speaking:
        return await speaking.post(path, json=body)


@pytest.fixture(scope="module")
def second(server: Deployment) -> Iterator[Part]:
    """Another backend over the same stores."""
    part = server.backend()
    yield part
    part.stop()
    server.parts.remove(part)


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_snapshot_comes_on_connect_and_every_two_seconds(transport: str, server: Deployment) -> None:
    began = time.monotonic()
    async with viewing(server.url, transport) as viewer:
        await eventually(lambda: len(viewer.of("metrics:snapshot")) >= 3, 8)
        times = [at for event, _, at in viewer.heard if event == "metrics:snapshot"]
        assert times[0] - began < 2
        assert 1.5 < times[2] - times[1] < 4
        snapshot = viewer.of("metrics:snapshot")[-1]
        assert set(snapshot) == {
            "ts", "eps", "epsStored", "errorRate", "queue", "ack", "services", "workers", "replays", "totals",
            "faults", "live",
        }  # fmt: skip
        assert snapshot["live"]["clients"] >= 1


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_each_stored_entry_is_shown_with_its_place(
    transport: str, server: Deployment, service: str
) -> None:
    async with viewing(server.url, transport) as viewer:
        body = batch(service, *range(1, 31), epoch=4, batchId="b1")
        body["batch"][0] = {
            "seq": 1, "level": "Notice", "message": "first", "ts": "2026-01-02T03:04:05.678Z", "trace_id": "t",
            "attrs": {"a": [1, None, 10**30]}, "unknown": True,
        }  # fmt: skip
        await send(server.url, body)
        await eventually(lambda: sorted(viewer.seqs(service)) == list(range(1, 31)))
        first = next(p for p in viewer.of("log:new", service) if p["seq"] == 1)
        assert TIME.fullmatch(first.pop("created_at"))
        assert re.fullmatch(
            r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", first.pop("id")
        )
        assert first == {
            "tenant_id": keys.ZERO_TENANT, "service_name": service, "service": service, "epoch": 4, "seq": 1,
            "level": "INFO", "level_text": "Notice", "severity": 10, "message": "first",
            "timestamp": "2026-01-02T03:04:05.678Z", "door": "ingest", "batch_id": "b1", "trace_id": "t",
            "metadata": {"a": [1, None, 1e30], "unknown": True},
        }  # fmt: skip
        await send(server.url, batch(service, 1, 2, 31, epoch=4))
        await eventually(lambda: 31 in viewer.seqs(service))
        assert len(viewer.seqs(service)) == 31  # duplicates are not shown again


async def test_acks_are_at_most_ten_a_second_and_the_newest_arrives(server: Deployment, service: str) -> None:
    async with (
        viewing(server.url) as viewer,
        httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as speaking,
    ):
        for n in range(1, 121):
            await speaking.post("/ingest", json=batch(service, n))
        await speaking.post("/ingest", json=batch(service, 122, 125))
        await eventually(lambda: viewer.of("ack:sent", service)[-1]["missingCount"] == 3)
        assert viewer.of("ack:sent", service)[-1] == {
            "service": service, "epoch": 0, "ackTill": 120, "missing": [121, 123, 124], "missingCount": 3
        }  # fmt: skip
        times = [at for event, p, at in viewer.heard if event == "ack:sent" and p["service"] == service]
        assert len(times) <= 10 * (times[-1] - times[0]) + 2
        acks = [p["ackTill"] for p in viewer.of("ack:sent", service)]
        assert acks == sorted(acks)


async def test_above_the_limit_a_fair_sample_is_shown_and_the_rest_counted(
    server: Deployment, service: str
) -> None:
    async with viewing(server.url) as viewer:
        # The first is up to a second old, and may not count what the test before this one stored last.
        await eventually(lambda: len(viewer.of("metrics:snapshot")) >= 3, 8)
        before = viewer.of("metrics:snapshot")[-1]["live"]
        await send(server.url, batch(service, *range(1, 5_001)))

        def is_counted() -> bool:
            live = viewer.of("metrics:snapshot")[-1]["live"]
            sent, skipped = live["sent"] - before["sent"], live["skipped"] - before["skipped"]
            assert sent + skipped >= 5_000
            return len(viewer.seqs(service)) == sent

        await eventually(is_counted, 8)
        seqs = viewer.seqs(service)
        assert 1 <= len(seqs) <= LIVE_MAX
        assert seqs == sorted(set(seqs))
        assert max(b - a for a, b in pairwise(seqs)) <= 2 * 5_000 / len(seqs)
        assert seqs[0] <= 100


async def test_completed_replays_are_told(server: Deployment, second: Part, service: str) -> None:
    with redis.Redis.from_url(server.buffers_url) as client:
        members = {json.dumps({"epoch": 0, "seq": n, "message": f"message {n}"}): n for n in range(1, 6)}
        client.zadd(keys.producer_buffer(keys.ZERO_TENANT, service), members)
        client.hset(
            keys.producer_meta(keys.ZERO_TENANT, service), mapping={"epoch": 0, "next": 6, "start": 1}
        )
    async with viewing(server.url) as here, viewing(second.url) as there:
        await send(server.url, batch(service, 1, 5))
        for viewer in (here, there):
            await eventually(lambda v=viewer: v.of("replay:completed", service), 10)
            (told,) = viewer.of("replay:completed", service)
            assert set(told) == {"id", "service", "epoch", "from", "to", "count", "latencyMs"}
            assert (told["epoch"], told["from"], told["to"], told["count"]) == (0, 2, 4, 3)
            assert told["latencyMs"] >= 0


async def test_every_client_of_every_backend_sees_every_event(
    server: Deployment, second: Part, service: str
) -> None:
    async with AsyncExitStack() as stack:
        viewers = [
            await stack.enter_async_context(viewing(url, transport))
            for url in (server.url, second.url)
            for transport in ("websocket", "polling")
        ]
        await send(server.url, batch(service, *range(1, 21)))
        await send(second.url, batch(service, *range(21, 41)))
        for viewer in viewers:
            await eventually(lambda v=viewer: sorted(v.seqs(service)) == list(range(1, 41)))
            await eventually(lambda v=viewer: v.of("ack:sent", service)[-1]["ackTill"] == 40)
        await post(second.url, "/metrics/control", {"action": "delay_ack", "seconds": 1})
        for viewer in viewers:
            await eventually(lambda v=viewer: len(v.of("sim:control")) >= 2, 6)
            begin, end = viewer.of("sim:control")
            assert set(begin) == set(end) == {"action", "active", "until", "parameters"}
            assert (begin["action"], begin["active"], end["action"], end["active"]) == (
                "delay_ack", True, "delay_ack", False,
            )  # fmt: skip
            assert TIME.fullmatch(begin["until"])
            assert end["until"] is None


async def test_a_dead_worker_is_missed_and_its_return_told(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy()
    deployment.both()
    worker = deployment.parts[0]
    async with viewing(deployment.url) as viewer:
        worker.child.kill()
        died = time.monotonic()
        await eventually(lambda: viewer.of("worker:crashed"), 8)
        assert time.monotonic() - died < 6.5
        (crashed,) = viewer.of("worker:crashed")
        assert set(crashed) == {"worker", "at", "recoversInMs"}
        assert (crashed["worker"], crashed["recoversInMs"]) == (worker.worker_id, None)
        assert TIME.fullmatch(crashed["at"])
        deployment.worker(worker_id=worker.worker_id)
        await eventually(lambda: viewer.of("worker:recovered"), 8)
        (recovered,) = viewer.of("worker:recovered")
        assert set(recovered) == {"worker", "at", "downMs"}
        assert recovered["worker"] == worker.worker_id
        assert recovered["downMs"] > 3_000


async def test_client_comes_back_after_the_backend_was_away(
    deploy: Callable[..., Deployment], service: str
) -> None:
    deployment = deploy()
    deployment.both()
    async with viewing(deployment.url) as viewer:
        await send(deployment.url, batch(service, 1))
        await eventually(lambda: viewer.seqs(service) == [1])
        port = deployment.main.port
        deployment.main.child.kill()
        deployment.main.child.wait()
        deployment.backend(port=port)
        seen = len(viewer.of("metrics:snapshot"))
        await eventually(lambda: len(viewer.of("metrics:snapshot")) > seen, 15)
        await send(deployment.url, batch(service, 2))
        await eventually(lambda: viewer.seqs(service) == [1, 2])


class Sleeper:
    """A client by long polling that connects and then does not come back for what is said."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.sid = ""

    async def _poll(self) -> list[str]:
        answer = await self.http.get(self.path())
        return answer.text.split("\x1e")

    def path(self) -> str:
        return f"/socket.io/?EIO=4&transport=polling{'&sid=' + self.sid if self.sid else ''}"

    async def connect(self) -> None:
        self.sid = json.loads((await self._poll())[0][1:])["sid"]
        await self.http.post(self.path(), content="40")
        assert (await self._poll())[0].startswith("40")

    async def events(self) -> list[tuple[str, Any]]:
        """What one poll brings; pings are answered."""
        packets = await self._poll()
        if "2" in packets:
            await self.http.post(self.path(), content="3")
        return [tuple(json.loads(p[2:])) for p in packets if p.startswith("42")]


async def test_slow_reader_is_cut_and_told_and_holds_up_nobody(
    deploy: Callable[..., Deployment], service: str
) -> None:
    deployment = deploy(live_entries_per_second_max=1_000_000)
    deployment.both()
    url, total = deployment.url, 6_000
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http, viewing(url) as awake:
        sleeper = Sleeper(http)
        await sleeper.connect()
        for first in range(0, total, 200):
            told = await send(url, batch(service, *range(first + 1, first + 201)))
            assert told["ackTill"] == first + 200
            await eventually(lambda n=first + 200: len(awake.seqs(service)) == n, 10)
        assert awake.of("log:skipped") == []
        heard: list[tuple[str, Any]] = []

        async def is_told() -> bool:
            heard.extend(await sleeper.events())
            return any(event == "log:skipped" for event, _ in heard)

        await eventually(is_told, 10)
        shown = sum(event == "log:new" for event, _ in heard)
        skipped = sum(payload["count"] for event, payload in heard if event == "log:skipped")
        assert 900 <= shown <= 2_000
        assert shown + skipped == total
        await send(url, batch(service, total + 1))

        async def is_back() -> bool:
            heard.extend(await sleeper.events())
            return ("log:new", total + 1) in [(e, p.get("seq")) for e, p in heard]

        await eventually(is_back, 10)


async def test_odd_clients_are_turned_away(server: Deployment, client: httpx.AsyncClient) -> None:
    for query in (
        "",
        "?EIO=3&transport=polling",
        "?EIO=4&transport=carrier",
        "?EIO=4&transport=polling&sid=none",
    ):
        answer = await client.get(f"/socket.io/{query}")
        assert answer.status_code == 400, query
    foreign = await client.get(
        "/socket.io/?EIO=4&transport=polling", headers={"Origin": "http://evil.example"}
    )
    assert foreign.status_code == 400
    for packet in ("9", "42", "42[", "40/other,", "41", "4", "b" * 70_000, "42[1]", '42["x"]', "45-1[", ""):
        sleeper = Sleeper(client)
        await sleeper.connect()
        with suppress(httpx.ReadTimeout):  # it may wait until what it was told is fetched
            answer = await client.post(sleeper.path(), content=packet, timeout=0.5)
            assert answer.status_code in (200, 400), packet
    assert (await client.get("/health")).status_code == 200


async def test_many_viewers_come_and_go(server: Deployment, service: str) -> None:
    async def clients() -> int:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as speaking:
            return int((await speaking.get("/metrics/snapshot")).json()["live"]["clients"])

    async with AsyncExitStack() as stack:
        viewers = await asyncio.gather(*(stack.enter_async_context(viewing(server.url)) for _ in range(30)))
        await send(server.url, batch(service, *range(1, 11)))
        for viewer in viewers:
            await eventually(lambda v=viewer: len(v.seqs(service)) == 10)

        async def all_are_counted() -> bool:
            return await clients() >= len(viewers)

        await eventually(all_are_counted)

    async def all_left() -> bool:
        return await clients() < len(viewers)  # clients of other tests stay until their ping is overdue

    await eventually(all_left, 10)
