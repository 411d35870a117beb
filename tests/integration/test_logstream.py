"""The logstream door: the contract's worked cases, and its WebSocket beside its HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import websockets
import zstandard

from tests.eventually import eventually
from tests.integration.conftest import Deployment

KEYS = [
    "id", "trace_id", "batch_id", "app_key", "app_id", "user_agent", "level", "category", "message", "context",
    "timestamp", "created_at",
]  # fmt: skip
ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}").fullmatch


def unique() -> str:
    return f"ls-{uuid.uuid4().hex[:8]}"


async def post(client: httpx.AsyncClient, document: Any, status: int = 201, **headers: str) -> dict[str, Any]:
    answer = await client.post("/api/logs", json=document, headers=headers)
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def save(
    client: httpx.AsyncClient, app_key: str, *logs: dict[str, Any], **more: Any
) -> list[dict[str, Any]]:
    told = await post(client, {"app_key": app_key, "app_id": "prod", "logs": list(logs), **more})
    assert (told["saved"], told["errors"]) == (len(logs), None)
    entries: list[dict[str, Any]] = told["entries"]
    return entries


async def read(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get("/api/logs", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_one_entry_at_top_level(client: httpx.AsyncClient) -> None:
    app_key = unique()
    answer = await client.post("/api/logs", json={"app_key": app_key, "app_id": "i", "message": "x/y ü"})
    assert answer.status_code == 201
    told = answer.json()
    assert list(told) == ["saved", "entries", "errors"]
    assert (told["saved"], told["errors"]) == (1, None)
    entry = told["entries"][0]
    assert list(entry) == KEYS
    assert (entry["level"], entry["category"], entry["batch_id"], entry["context"]) == (
        "info",
        "general",
        None,
        None,
    )
    assert uuid.UUID(entry["trace_id"]).version == 4
    assert ULID(entry["id"])
    assert entry["user_agent"].startswith("python-httpx")
    assert "x/y ü".encode() in answer.content
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    for spelling in (entry["id"], entry["id"].lower(), entry["trace_id"]):
        assert (await client.get(f"/api/logs/{spelling}")).json() == entry
    assert (await read(client, app_key=app_key)) == {
        "total": 1,
        "limit": 100,
        "offset": 0,
        "entries": [entry],
    }


async def test_a_batch(client: httpx.AsyncClient) -> None:
    app_key, batch = unique(), uuid.uuid4().hex
    entries = await save(client, app_key, *({"message": f"{n}"} for n in range(3)), batch_id=batch)
    assert [e["id"] for e in entries] == sorted(e["id"] for e in entries)
    found = await read(client, batch_id=batch)
    assert found["total"] == 3
    assert found["entries"] == entries[::-1]


@pytest.mark.parametrize(
    ("logs", "saved", "errors"),
    [
        ([{"message": "a"}, {"message": 5}, {"message": "b"}], 2, ["Entry #1: message must be a string"]),
        (["x"], 0, ["Entry #0: must be an object"]),
        ([{}], 0, ["Entry #0: message is required"]),
        ([{"message": None}, {"message": ""}], 1, ["Entry #0: message is required"]),
        ([{"message": "x", "timestamp": 5}], 0, ["Entry #0: timestamp must be a string"]),
        ([{"message": "x", "trace_id": 5}], 0, ["Entry #0: trace_id must be a string"]),
        ([{"message": "x", "trace_id": "t" * 65}], 0, ["Entry #0: trace_id is too long"]),
        ([{"message": "x", "batch_id": "t" * 65}], 0, ["Entry #0: batch_id is too long"]),
        ([{"message": "x", "category": []}], 0, ["Entry #0: category must be a string"]),
        ([{"message": "x", "app_key": 5}], 0, ["Entry #0: app_key must be a string"]),
        ([{"message": "x" * (2**20 + 1)}], 0, ["Entry #0: message is too long"]),
        ([{"message": "x", "context": {"a": "b" * 2**20}}], 0, ["Entry #0: context is too large"]),
        ([], 0, None),
    ],
)
async def test_entries_that_are_left_out(
    client: httpx.AsyncClient, logs: list[Any], saved: int, errors: list[str] | None
) -> None:
    app_key = unique()
    told = await post(client, {"app_key": app_key, "app_id": "i", "logs": logs}, 201 if saved else 400)
    assert (told["saved"], len(told["entries"]), told["errors"]) == (saved, saved, errors)
    assert (await read(client, app_key=app_key))["total"] == saved


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "Invalid JSON body"),
        (b"", "Invalid JSON body"),
        (b"5", "Invalid JSON body"),
        (b"null", "Invalid JSON body"),
        (b"[]", "app_key and app_id are required"),
        (b'{"message":"x"}', "app_key and app_id are required"),
        (b'{"app_key":"k","message":"x"}', "app_key and app_id are required"),
        (b'{"logs":[{"app_key":"k","app_id":"i","message":"x"}]}', "app_key and app_id are required"),
        (
            b'{"app_key":5,"app_id":"i","message":"x"}',
            "app_key and app_id must be strings of 1 to 100 characters",
        ),
        (
            b'{"app_key":"%s","app_id":"i"}' % (b"k" * 101),
            "app_key and app_id must be strings of 1 to 100 characters",
        ),
    ],
)
async def test_requests_that_are_refused(client: httpx.AsyncClient, body: bytes, text: str) -> None:
    answer = await client.post("/api/logs", content=body)
    assert (answer.status_code, answer.json()) == (400, {"error": text})


async def test_headers_stand_in(client: httpx.AsyncClient) -> None:
    app_key = unique()
    headers = {"X-App-Key": app_key, "X-App-Id": "i", "User-Agent": "Own/1"}
    told = await post(client, {"message": "x"}, **headers)
    entry = told["entries"][0]
    assert (entry["app_key"], entry["app_id"], entry["user_agent"]) == (app_key, "i", "Own/1")


@pytest.mark.parametrize(
    ("given", "shown"),
    [("ERROR", "error"), ("warn", "warning"), ("fatal", "critical"), ("nonsense", "info"), (5, "info"),
     ("notice", "notice"), ("trace", "debug"), ("emerg", "critical"), ("", "info"), (None, "info")],
)  # fmt: skip
async def test_levels(client: httpx.AsyncClient, given: Any, shown: str) -> None:
    (entry,) = await save(client, unique(), {"message": "x", "level": given})
    assert entry["level"] == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [('{"a":1}', {"a": 1}), ("notjson", None), ({}, {}), ([1], [1]), (5, None), ("5", None), ("[]", []),
     ({"a": {"b": [None]}}, {"a": {"b": [None]}}), (None, None)],
)  # fmt: skip
async def test_contexts(client: httpx.AsyncClient, given: Any, shown: Any) -> None:
    (entry,) = await save(client, unique(), {"message": "x", "context": given})
    assert entry["context"] == shown
    assert (await client.get(f"/api/logs/{entry['id']}")).json() == entry


async def test_other_keys_go_into_the_context(client: httpx.AsyncClient) -> None:
    entries = await save(
        client, unique(), {"message": "x", "odd": 1}, {"message": "x", "odd": 1, "context": {"odd": 2}},
        {"message": "x", "odd": 1, "context": [3]},
    )  # fmt: skip
    assert [e["context"] for e in entries] == [{"odd": 1}, {"odd": 2}, [3]]
    told = await post(client, {"app_key": unique(), "app_id": "i", "message": "x", "logs": 7})
    assert told["entries"][0]["context"] == {"logs": 7}


async def test_times(client: httpx.AsyncClient) -> None:
    app_key = unique()
    entries = await save(
        client, app_key, {"message": "x", "timestamp": "2025-01-15T00:30:00+02:00"},
        {"message": "y", "timestamp": "garbage"}, {"message": "z", "timestamp": "1970-01-01T00:00:00Z"},
    )  # fmt: skip
    assert entries[0]["timestamp"] == "2025-01-14T22:30:00.000Z"
    assert entries[1]["timestamp"][:13] == entries[1]["created_at"][:13] == entries[2]["timestamp"][:13]
    assert (await read(client, app_key=app_key, date_to="2025-01-14"))["entries"] == [entries[0]]
    assert (await read(client, app_key=app_key, date_from="2025-01-14", date_to="2025-01-14"))["total"] == 1
    assert (await read(client, app_key=app_key, date_from="2025-01-15"))["total"] == 2
    exactly = {"date_from": "2025-01-14T22:30:00Z", "date_to": "2025-01-14T22:30:00.000Z"}
    assert (await read(client, app_key=app_key, **exactly))["total"] == 1
    for name in ("date_from", "date_to"):
        answer = await client.get("/api/logs", params={name: "soon"})
        assert (answer.status_code, answer.json()) == (400, {"error": f"Invalid {name}"})


async def test_times_may_be_anything_of_iso_8601(client: httpx.AsyncClient) -> None:
    app_key = unique()
    (entry,) = await save(client, app_key, {"message": "x", "timestamp": "20250114T2230"})
    assert entry["timestamp"] == "2025-01-14T22:30:00.000Z"
    for times in ({"date_from": "20250114", "date_to": "20250114"}, {"date_from": "2025-01-14T22:30"}):
        assert (await read(client, app_key=app_key, **times))["total"] == 1


async def test_filters(client: httpx.AsyncClient) -> None:
    app_key = unique()
    logs = [
        {
            "message": "100% sure",
            "level": "error",
            "category": "pay_ments",
            "trace_id": "t1",
            "user_agent": "A/1",
        },
        {
            "message": "100 sure",
            "level": "notice",
            "category": "paxments",
            "trace_id": "t2",
            "user_agent": "B/1",
        },
        {"message": "Grüße", "level": "emerg", "app_id": "other"},
    ]
    await save(client, app_key, *logs)

    async def found(**query: Any) -> list[str]:
        return [e["message"] for e in (await read(client, app_key=app_key, **query))["entries"]][::-1]

    assert await found(search="0%") == ["100% sure"]
    assert await found(search="GRÜSSE") == []
    assert await found(search="grü") == ["Grüße"]
    assert await found(category="Y_M") == ["100% sure"]
    assert await found(category="GENERAL") == ["Grüße"]
    assert await found(user_agent="b/") == ["100 sure"]
    assert await found(level="error,NOTICE") == ["100% sure", "100 sure"]
    assert await found(level=["error", "critical"]) == ["100% sure", "Grüße"]
    assert await found(level="foo") == []
    assert await found(level="info") == []
    assert await found(app_id="other") == ["Grüße"]
    assert await found(trace_id="t1", app_id="prod") == ["100% sure"]
    assert await found(door="logs") == []
    assert await found(door="logstream", search="") == ["100% sure", "100 sure", "Grüße"]
    answer = await client.get("/api/logs", params={"search": "x" * 257})
    assert (answer.status_code, answer.json()) == (400, {"error": "search is too long"})


async def test_pages(client: httpx.AsyncClient) -> None:
    app_key = unique()
    entries = await save(client, app_key, *({"message": f"{n}"} for n in range(25)))
    for limit, used in (("0", 1), ("5000", 1000), ("x", 1), ("7", 7), ("", 100)):
        assert (await read(client, app_key=app_key, limit=limit))["limit"] == used
    page = await read(client, app_key=app_key, limit=10, offset=20)
    assert (page["total"], page["offset"], page["entries"]) == (25, 20, entries[4::-1])
    assert (await read(client, app_key=app_key, offset=-4))["offset"] == 0
    answer = await client.get("/api/logs", params={"offset": 100_001})
    assert answer.json() == {"error": "offset must not exceed 100000; use cursor"}
    seen, cursor = [], ""
    while cursor is not None:
        page = await read(client, app_key=app_key, limit=10, cursor=cursor)
        assert list(page) == ["total", "limit", "offset", "entries", "next_cursor"]
        seen += page["entries"]
        cursor = page["next_cursor"]
    assert seen == entries[::-1]
    answer = await client.get("/api/logs", params={"cursor": "nonsense"})
    assert (answer.status_code, answer.json()) == (400, {"error": "Invalid cursor"})


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"app_key":"k","app_id":"i","message":"x","context":"' + b"c" * 3 * 2**20 + b'"}', {}, 201),
        (b" " * 5 * 2**20, {}, 413),
        (gzip.compress(b" " * 50 * 2**20), {"Content-Encoding": "gzip"}, 413),
        (zstandard.compress(b" " * 600 * 2**20), {"Content-Encoding": "zstd"}, 413),
        (b"{}", {"Content-Encoding": "br"}, 415),
    ],
    ids=["3 MiB", "5 MiB", "gzip", "zstd", "br"],
)
async def test_sizes(client: httpx.AsyncClient, body: bytes, headers: dict[str, str], status: int) -> None:
    answer = await client.post("/api/logs", content=body, headers=headers)
    assert answer.status_code == status, answer.text[:200]
    texts = {413: "Payload too large", 415: "Unsupported Content-Encoding"}
    if status != 201:
        assert answer.json() == {"error": texts[status]}


async def test_too_many_entries(client: httpx.AsyncClient) -> None:
    told = await post(client, {"app_key": "k", "app_id": "i", "logs": [{"message": "x"}] * 5_001}, 413)
    assert told == {"error": "Payload too large"}


async def test_a_key_means_once_with_its_errors(client: httpx.AsyncClient) -> None:
    app_key, key = unique(), uuid.uuid4().hex
    document = {"app_key": app_key, "app_id": "i", "logs": [{"message": "x"}, {}, {"message": "y"}]}
    first = await client.post("/api/logs", json=document, headers={"Idempotency-Key": key})
    again = await client.post("/api/logs", json=document, headers={"Idempotency-Key": key})
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert (await read(client, app_key=app_key))["total"] == 2
    agent = await client.post(
        "/api/logs", json=document, headers={"Idempotency-Key": key, "User-Agent": "another"}
    )
    assert agent.status_code == 422  # these entries would be others
    other = await client.post("/api/logs", json={**document, "app_id": "j"}, headers={"Idempotency-Key": key})
    assert (other.status_code, other.json()) == (422, {"error": "Idempotency-Key was used for another body"})
    bad = await client.post("/api/logs", json=document, headers={"Idempotency-Key": "a b"})
    assert (bad.status_code, bad.json()) == (400, {"error": "Invalid Idempotency-Key"})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/api/logs", 404), ("DELETE", "/api/logs/x", 404), ("GET", "/api/nothing", 404),
        ("GET", "/api/logs/01HZXYZ8Q2N5V7K3M9T4B6C1D0", 404), ("GET", "/api/logs/", 200), ("GET", "/api/health", 200),
        ("GET", "/api/health/", 200), ("HEAD", "/api/logs", 200), ("OPTIONS", "/api/anything", 204),
    ],
)  # fmt: skip
async def test_paths_and_methods(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    if status == 404:
        assert answer.json() == {"error": "Not found"}
    if method in ("HEAD", "OPTIONS"):
        assert answer.content == b""
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
    assert "Idempotency-Key" in answer.headers["access-control-allow-headers"]
    assert answer.headers["access-control-max-age"] == "600"


async def test_entries_of_other_doors(client: httpx.AsyncClient) -> None:
    service = unique()
    entry = {"service_name": service, "message": "x", "environment": "prod", "metadata": {}, "level": "FATAL"}
    written = (await client.post("/api/v1/logs", json=entry)).json()["data"]
    batch = [{"seq": 1, "message": "y", "ts": "2025-01-01T00:00:00Z"}]
    await client.post("/ingest", json={"service": service, "batch": batch})
    first, second = (await read(client, app_key=service))["entries"]
    assert (first["app_id"], first["context"], first["level"], first["trace_id"]) == (
        "prod",
        None,
        "critical",
        None,
    )
    assert (second["app_id"], second["category"]) == ("default", "general")
    assert (await read(client, app_key=service, app_id="default"))["entries"] == [second]
    assert (await read(client, app_key=service, app_id="prod"))["entries"] == [first]
    assert (await client.get(f"/api/logs/{written['id']}")).json() == first
    (mine,) = await save(client, service, {"message": "mine", "context": {"a": 1}})
    there = (await client.get(f"/api/v1/logs/{mine['id']}")).json()["data"]
    assert (there["service_name"], there["metadata"], there["door"]) == (service, {"a": 1}, "logstream")


@asynccontextmanager
async def connected(server: Deployment, query: str = "") -> AsyncIterator[Any]:
    """A socket that was greeted."""
    async with websockets.connect(f"ws://127.0.0.1:{server.main.port}/ws{query}") as socket:
        greeting = await frame(socket)
        assert greeting["type"] == "connected"
        assert greeting["connections"] >= 1
        yield socket


async def frame(socket: Any) -> dict[str, Any]:
    async with asyncio.timeout(10):
        found: dict[str, Any] = json.loads(await socket.recv())
    return found


async def test_a_frame_equals_the_entry(client: httpx.AsyncClient, server: Deployment) -> None:
    app_key = unique()
    async with connected(server, f"?app_key={app_key}") as socket:
        entries = await save(client, app_key, {"message": "ü", "context": {"a": [1]}}, {"message": "2"})
        assert [await frame(socket), await frame(socket)] == [{"type": "log", "data": e} for e in entries]


async def test_what_a_client_may_say(client: httpx.AsyncClient, server: Deployment) -> None:
    app_key = unique()
    async with connected(server) as socket:
        for odd in ("{", "[]", '{"type":"strange"}', b"binary", "5"):
            await socket.send(odd)
        await socket.send('{"type":"ping"}')
        assert await frame(socket) == {"type": "pong"}
        await socket.send('{"type":"stats"}')
        assert (await frame(socket))["data"]["connections"] >= 1
        wanted = {"app_key": app_key, "min_level": "warning", "other": 5}
        await socket.send(json.dumps({"type": "filter", "data": wanted}))
        assert await frame(socket) == {"type": "filter", "data": wanted}
        for bad in (5, {"search": "x" * 257}, {"app_key": 5}):
            await socket.send(json.dumps({"type": "filter", "data": bad}))
            assert await frame(socket) == {"type": "error", "message": "Invalid filter."}
        await save(client, app_key, {"message": "low"}, {"message": "high", "level": "error"})
        assert (await frame(socket))["data"]["message"] == "high"


async def test_connections_are_counted_over_all_backends(deploy: Any) -> None:
    apart: Deployment = deploy()
    apart.backend()
    other = apart.backend()
    apart.worker()

    async def total(url: str) -> int:
        async with httpx.AsyncClient(trust_env=False) as asking:
            return int((await asking.get(f"{url}/api/health")).json()["ws_connections"])

    async with connected(apart), connected(apart):
        async with websockets.connect(f"ws://127.0.0.1:{other.port}/ws"):
            for url in (apart.url, other.url):

                async def three(url: str = url) -> bool:
                    return await total(url) == 3

                await eventually(three, 5)

        async def two() -> bool:
            return await total(other.url) == 2

        await eventually(two, 5)


@pytest.mark.parametrize(("say", "code"), [("many", 1008), ("long", 1009)])
async def test_saying_too_much_ends_the_socket(server: Deployment, say: str, code: int) -> None:
    async with connected(server) as socket:
        with contextlib.suppress(websockets.ConnectionClosed):
            if say == "long":
                await socket.send("x" * (64 * 1024 + 1))
            for _ in range(200 if say == "many" else 0):
                await socket.send('{"type":"nothing"}')
        async with asyncio.timeout(10):
            await socket.wait_closed()
        assert socket.close_code == code
