"""Server-sent events: all that is committed, once or more, in order; resumed, reset, filtered, and never in the way."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.integration.conftest import Deployment
from tracehub.protocol.filters import from_query, matches


@dataclass
class Event:
    """One frame as a browser would read it."""

    id: str = ""
    event: str = ""
    data: str = ""

    @property
    def message(self) -> str:
        return str(json.loads(self.data)["message"])


@asynccontextmanager
async def following(
    client: httpx.AsyncClient, headers: dict[str, str] | None = None, **query: Any
) -> AsyncIterator[Any]:
    """`await next()` gives the next event; the stream is open when the block begins."""
    async with client.stream(
        "GET", "/api/v1/logs/stream", params=query, headers=headers, timeout=20
    ) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        lines = answer.aiter_lines()
        assert await anext(lines) == "retry: 2000"
        assert await anext(lines) == ""

        async def next_event() -> Event:
            found = Event()
            async with asyncio.timeout(15):
                async for line in lines:
                    if not line and found.event:
                        return found
                    name, _, value = line.partition(": ")
                    if name in ("id", "event", "data"):
                        setattr(found, name, value)
            raise AssertionError("the stream ended")

        yield next_event


async def write(client: httpx.AsyncClient, service: str, *messages: str, **more: Any) -> None:
    entries = [{"service_name": service, "message": message, **more} for message in messages]
    answer = await client.post("/api/v1/logs/batch", json={"entries": entries})
    assert answer.status_code == 201, answer.text


def unique() -> str:
    return f"sse-{uuid.uuid4().hex[:8]}"


async def test_what_is_committed_arrives_as_it_is_read(client: httpx.AsyncClient) -> None:
    service = unique()
    async with following(client, service=service) as next_event:
        await write(client, service, "one\nline", "two", metadata={"a": "\n\ndata: x"})
        await client.post("/ingest", json={"service": service, "batch": [{"seq": 1, "message": "three"}]})
        events = [await next_event() for _ in range(3)]
    assert [e.message for e in events] == ["one\nline", "two", "three"]
    assert {e.event for e in events} == {"message"}
    for event in events:
        shown = json.loads(event.data)
        assert (await client.get(f"/api/v1/logs/{shown['id']}")).json()["data"] == shown


async def test_resuming_misses_nothing(client: httpx.AsyncClient) -> None:
    service = unique()
    async with following(client, service=service) as next_event:
        await write(client, service, "a", "b")
        await next_event()
        seen = await next_event()
    await write(client, service, *(f"m{n}" for n in range(250)))
    await client.post("/ingest", json={"service": service, "batch": [{"seq": n} for n in range(1, 5)]})
    for how in ({"headers": {"Last-Event-ID": seen.id}}, {"last_event_id": seen.id}):
        async with following(client, service=service, **how) as next_event:
            events = [await next_event() for _ in range(254)]
            await write(client, service, "live")
            while (last := await next_event()).message != "live":
                events.append(last)
        missed = list(dict.fromkeys(e.data for e in events))
        assert [json.loads(d)["message"] for d in missed][-254:] == [f"m{n}" for n in range(250)] + [""] * 4


async def test_resuming_within_a_commit_repeats_it(client: httpx.AsyncClient) -> None:
    service = unique()
    async with following(client, service=service) as next_event:
        await write(client, service, "a", "b", "c")
        first = await next_event()
    async with following(client, service=service, last_event_id=first.id) as next_event:
        messages = [(await next_event()).message for _ in range(3)]
    assert messages == ["a", "b", "c"]


@pytest.mark.parametrize("position", ["1-0", "0-0", "99999999999999-0", "nonsense", "1731868800123-0"])
async def test_an_unknown_position_is_told(client: httpx.AsyncClient, position: str) -> None:
    service = unique()
    await write(client, service, "before")
    async with following(client, service=service, last_event_id=position) as next_event:
        reset = await next_event()
        assert (reset.event, json.loads(reset.data)) == ("reset", {"reason": "position_too_old"})
        await write(client, service, "after")
        assert (await next_event()).message == "after"


async def test_filters(client: httpx.AsyncClient) -> None:
    service = unique()
    async with following(
        client, service=service, min_level="WARN", search="NEEDLE", **{"metadata.n": "5"}
    ) as next_event:
        await write(client, service, "needle", level="info", metadata={"n": 5})
        await write(client, service, "hay", level="error", metadata={"n": 5})
        await write(client, service, "needle", level="error", metadata={"n": 6})
        await write(client, service, "a Needle", level="error", metadata={"n": 5})
        assert (await next_event()).message == "a Needle"


async def test_streams_end_when_the_server_stops(deploy: Any) -> None:
    apart: Deployment = deploy()
    backend = apart.backend()
    apart.worker()
    async with (
        httpx.AsyncClient(base_url=apart.url, trust_env=False, timeout=20) as client,
        client.stream("GET", "/api/v1/logs/stream") as answer,
    ):
        lines = answer.aiter_lines()
        await anext(lines)
        backend.child.terminate()
        async with asyncio.timeout(5):
            assert [line async for line in lines] == [""]
    assert await asyncio.to_thread(backend.child.wait, 5) in (0, -15)


async def test_one_that_does_not_read_is_told_what_it_missed_and_holds_nobody_up(
    client: httpx.AsyncClient, server: Deployment
) -> None:
    service = unique()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.main.port, limit=1024)
    request = f"GET /api/v1/logs/stream?service={service} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    writer.write(request.encode())
    await reader.readuntil(b"retry: 2000")
    text = "x" * 20_000
    async with following(client, service=service) as next_event:
        for n in range(12):
            await write(client, service, *(f"{n} {text}" for _ in range(100)))
            for _ in range(100):
                event = await next_event()
                assert event.event == "message"
    got = bytearray()
    async with asyncio.timeout(20):
        while b"event: skipped" not in got:
            piece = await reader.read(65536)
            assert piece
            got += piece
    writer.close()


MATCHED = {
    "service_name": "s",
    "severity": 17,
    "message": "Grün %",
    "host": "h",
    "timestamp": "2024-01-15T10:30:00.000Z",
}


@pytest.mark.parametrize(
    ("query", "metadata", "expected"),
    [
        ([("service", "s")], None, True),
        ([("service", "t")], None, False),
        ([("service", "t"), ("service", "s")], None, True),
        ([("host", "x")], None, False),
        ([("level", "error")], None, True),
        ([("level", "warn")], None, False),
        ([("search", "GRÜN")], None, True),
        ([("search", "%")], None, True),
        ([("search", "_")], None, False),
        ([("metadata.a", "1")], {"a": 1}, True),
        ([("metadata.a", "1")], {"a": "1"}, True),
        ([("metadata.a", "1")], {"a": True}, False),
        ([("metadata.a", "true")], {"a": True}, True),
        ([("metadata.a.b", "x")], {"a": {"b": "x"}}, True),
        ([("metadata.a.b", "x")], {"a.b": "x"}, True),
        ([("metadata.a", "null")], {"a": None}, True),
        ([("metadata.a", "null")], {}, False),
        ([("metadata.a", "1")], [1], False),
        ([("start", "2024-01-15T10:30:00Z"), ("end", "2024-01-15T10:30:00Z")], None, True),
        ([("start", "2024-01-15T10:30:00.001Z")], None, False),
    ],
)
def test_what_matches(query: list[tuple[str, str]], metadata: Any, expected: bool) -> None:
    shown = MATCHED if metadata is None else {**MATCHED, "metadata": metadata}
    assert matches(from_query(query)[0], shown) is expected
