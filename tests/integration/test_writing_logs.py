"""Writing over /api/v1/logs: what is answered with 201 is in Postgres, once."""

from __future__ import annotations

import asyncio
import gzip
import json
import uuid
from typing import Any

import asyncpg
import httpx
import pytest

from tests.integration.conftest import Deployment
from tracehub.storage.postgres.verify import verify

JSON = {"Content-Type": "application/json"}
FULL = {
    "service_name": "auth-service",
    "level": "ERROR",
    "message": "Failed to authenticate user",
    "timestamp": "2024-01-15T10:30:00.000Z",
    "trace_id": "abc123def456",
    "span_id": "span789",
    "user_id": "user-uuid",
    "request_id": "req-123",
    "metadata": {"error_code": "AUTH_001", "deep": {"er": [1, None]}},
    "source": "handler/auth.go:45",
    "host": "pod-abc123",
    "environment": "production",
}


def unique(name: str = "w") -> str:
    return f"{name}-{uuid.uuid4().hex[:10]}"


async def write(client: httpx.AsyncClient, entry: Any, **headers: str) -> dict[str, Any]:
    answer = await client.post("/api/v1/logs", json=entry, headers=headers)
    assert answer.status_code == 201, answer.text
    stored: dict[str, Any] = answer.json()["data"]
    return stored


async def test_the_answer_is_what_is_read(client: httpx.AsyncClient) -> None:
    written = await write(client, FULL)
    for name, value in FULL.items():
        assert written[name] == value
    assert (written["severity"], written["door"]) == (17, "logs")
    read = (await client.get(f"/api/v1/logs/{written['id']}")).json()["data"]
    assert read == written
    assert list(written)[:4] == list(read)[:4]


@pytest.mark.parametrize("metadata", [{}, [1, 2], "text", 5, True, {"_value": 1}])
async def test_metadata_comes_back_as_it_was_sent(client: httpx.AsyncClient, metadata: Any) -> None:
    written = await write(client, {"service_name": "m", "message": "x", "metadata": metadata})
    read = (await client.get(f"/api/v1/logs/{written['id']}")).json()["data"]
    assert written["metadata"] == read["metadata"]
    if metadata != {"_value": 1}:
        assert read["metadata"] == metadata


async def test_least_and_unknown(client: httpx.AsyncClient) -> None:
    written = await write(
        client,
        {
            "service_name": "m",
            "message": "x\u0000y",
            "level": "Panic",
            "odd": 1,
            "trace_id": "",
            "host": None,
        },
    )
    assert (written["level"], written["level_text"], written["message"]) == ("FATAL", "Panic", "x\ufffdy")
    assert written["metadata"] == {"odd": 1}
    assert "trace_id" not in written
    assert "host" not in written


@pytest.mark.parametrize(
    ("entry", "code", "field"),
    [
        ({"message": "x"}, "invalid_request", "service_name"),
        ({"service_name": "", "message": "x"}, "invalid_request", "service_name"),
        ({"service_name": "s" * 101, "message": "x"}, "invalid_request", "service_name"),
        ({"service_name": "s"}, "invalid_request", "message"),
        ({"service_name": "s", "message": ""}, "invalid_request", "message"),
        ({"service_name": "s", "message": 5}, "invalid_request", "message"),
        ({"service_name": "s", "message": "x" * (2**20 + 1)}, "invalid_request", "message"),
        ({"service_name": "s", "message": "x", "id": "nope"}, "invalid_id", "id"),
        ({"service_name": "s", "message": "x", "level": 5}, "invalid_request", "level"),
        ({"service_name": "s", "message": "x", "timestamp": "soon"}, "invalid_request", "timestamp"),
        (
            {"service_name": "s", "message": "x", "timestamp": "1999-12-31T23:59:59Z"},
            "invalid_request",
            "timestamp",
        ),
        ({"service_name": "s", "message": "x", "trace_id": "t" * 65}, "invalid_request", "trace_id"),
        ({"service_name": "s", "message": "x", "metadata": "m" * 2**20}, "invalid_request", "metadata"),
        ([], "invalid_request", None),
        ("text", "invalid_request", None),
    ],
)
async def test_bad_entries(client: httpx.AsyncClient, entry: Any, code: str, field: str | None) -> None:
    answer = await client.post("/api/v1/logs", json=entry)
    assert answer.status_code == 400
    assert answer.json()["success"] is False
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"].get("field") == field
    if isinstance(entry, dict):
        good = {"service_name": "s", "message": "good"}
        answer = await client.post("/api/v1/logs/batch", json={"entries": [good, entry]})
        assert answer.status_code == 400
        assert answer.json()["error"]["field"] == f"entries[1].{field}"


async def test_a_batch_is_stored_whole_or_not_at_all(client: httpx.AsyncClient) -> None:
    service = unique()
    entries: list[Any] = [{"service_name": service, "message": f"m{n}"} for n in range(300)]
    bad = [*entries, {"service_name": service}]
    assert (await client.post("/api/v1/logs/batch", json={"entries": bad})).status_code == 400
    assert await count(client, service) == 0
    body = gzip.compress(json.dumps({"entries": entries}).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = await client.post("/api/v1/logs/batch", content=body, headers=headers)
    assert (answer.status_code, answer.json()["data"]) == (201, {"count": 300})
    assert await count(client, service) == 300
    found = await client.get("/api/v1/logs", params={"service": service, "order": "asc", "page_size": 1000})
    assert [e["message"] for e in found.json()["data"]["entries"]] == [f"m{n}" for n in range(300)]


@pytest.mark.parametrize("body", [{}, {"entries": []}, {"entries": None}])
async def test_nothing_to_store(client: httpx.AsyncClient, body: Any) -> None:
    answer = await client.post("/api/v1/logs/batch", json=body)
    assert (answer.status_code, answer.json()["data"]) == (201, {"count": 0})


async def test_limits(client: httpx.AsyncClient) -> None:
    one = {"service_name": "s", "message": "x"}
    answer = await client.post("/api/v1/logs/batch", json={"entries": [one] * 5_001})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    answer = await client.post("/api/v1/logs", content=b" " * (10 * 2**20 + 1), headers=JSON)
    assert answer.status_code == 413
    answer = await client.post("/api/v1/logs", content=b"{", headers=JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


async def count(client: httpx.AsyncClient, service: str) -> int:
    answer = await client.get("/api/v1/logs", params={"service": service, "page_size": 1})
    return int(answer.json()["data"]["total_count"])


async def test_the_same_id_gives_the_same_answer_and_one_row(client: httpx.AsyncClient) -> None:
    service, own = unique(), str(uuid.uuid4())
    entry = {"service_name": service, "message": "once", "id": own.upper()}
    first = await write(client, entry)
    assert first["id"] == own
    assert await write(client, entry) == first
    assert (await write(client, {**entry, "message": "other"}))["message"] == "once"
    answers = await asyncio.gather(*(write(client, entry) for _ in range(20)))
    assert all(answer == first for answer in answers)
    answer = await client.post("/api/v1/logs/batch", json={"entries": [entry, entry, {**entry, "id": None}]})
    assert answer.json()["data"] == {"count": 3, "duplicates": 2}
    assert await count(client, service) == 2


async def test_many_at_once_with_one_id_leave_one_row(client: httpx.AsyncClient) -> None:
    service, own = unique(), str(uuid.uuid4())
    entry = {"service_name": service, "message": "race", "id": own}
    answers = await asyncio.gather(*(write(client, entry) for _ in range(30)))
    assert all(answer == answers[0] for answer in answers)
    assert await count(client, service) == 1


async def test_an_idempotency_key_means_once(client: httpx.AsyncClient) -> None:
    service, key = unique(), unique("key")
    entry = {"service_name": service, "message": "keyed"}
    first = await client.post("/api/v1/logs", json=entry, headers={"Idempotency-Key": key})
    assert first.status_code == 201
    assert "idempotency-replayed" not in first.headers
    again = await client.post("/api/v1/logs", json=entry, headers={"Idempotency-Key": key})
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    other = await client.post(
        "/api/v1/logs", json={**entry, "message": "x"}, headers={"Idempotency-Key": key}
    )
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")
    elsewhere = {"entries": [entry]}
    batch = await client.post("/api/v1/logs/batch", json=elsewhere, headers={"Idempotency-Key": key})
    assert batch.status_code == 201
    assert await count(client, service) == 2


async def test_requests_at_once_with_one_key(client: httpx.AsyncClient) -> None:
    service, key = unique(), unique("key")
    entry = {"service_name": service, "message": "keyed"}
    headers = {"Idempotency-Key": key}
    answers = await asyncio.gather(
        *(client.post("/api/v1/logs", json=entry, headers=headers) for _ in range(20))
    )
    assert {a.status_code for a in answers} <= {201, 409}
    assert {a.json()["error"]["code"] for a in answers if a.status_code == 409} <= {"in_flight"}
    stored = {a.json()["data"]["id"] for a in answers if a.status_code == 201}
    assert len(stored) == 1
    assert await count(client, service) == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ä"])
async def test_bad_keys(client: httpx.AsyncClient, key: str) -> None:
    answer = await client.post(
        "/api/v1/logs",
        json={"service_name": "s", "message": "x"},
        headers=[("Idempotency-Key", key.encode("latin-1"))],
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


async def test_a_refused_request_is_not_remembered(client: httpx.AsyncClient) -> None:
    key, service = unique("key"), unique()
    bad = await client.post("/api/v1/logs", json={"message": "x"}, headers={"Idempotency-Key": key})
    assert bad.status_code == 400
    good = {"service_name": service, "message": "x"}
    answer = await client.post("/api/v1/logs", json=good, headers={"Idempotency-Key": key})
    assert answer.status_code == 201


async def test_the_ledger_and_the_rows_agree(client: httpx.AsyncClient, server: Deployment) -> None:
    """An id that was given twice leaves a number without a row: it is void, and the ledger says so."""
    entry = {"service_name": unique(), "message": "x", "id": str(uuid.uuid4())}
    await write(client, entry)
    connection = await asyncpg.connect(server.database, ssl=False)
    try:
        before = await connection.fetchval(VOID)
        await write(client, entry)
        assert await connection.fetchval(VOID) >= before + 1
    finally:
        await connection.close()
    assert (await verify(server.database)).differences == []


VOID = "select coalesce(sum(numbers_in(void)), 0)::bigint from ack_state where numbering = '@logs'"
