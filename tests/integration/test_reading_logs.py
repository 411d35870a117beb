"""Reading logs over HTTP: what is found is exactly what a plain model of the same filter finds."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import asyncpg
import httpx
import pytest

from tests.eventually import eventually
from tests.integration.conftest import Deployment
from tracehub.protocol.errors import QueryTimeout
from tracehub.protocol.filters import LogFilter
from tracehub.protocol.severity import number_of
from tracehub.protocol.times import iso
from tracehub.storage.postgres import search
from tracehub.storage.postgres.connect import open_pool
from tracehub.storage.redis.keys import ZERO_TENANT

LEVELS = ("trace", "debug", "info", "notice", "warning", "error", "critical", "alert", "strange")
DAY_MS = 24 * 3600 * 1000
BEGIN_MS = 1_731_000_000_000


def entry(seq: int) -> dict[str, Any]:
    """Every third time is shared by three; two months; odd words in some."""
    made: dict[str, Any] = {
        "seq": seq,
        "ts": BEGIN_MS + (seq // 3) * DAY_MS,
        "level": LEVELS[seq % len(LEVELS)],
        "message": ("plain", "100% sure", "a_b", "back\\slash", "Größe")[seq % 5] + f" {seq}",
        "trace_id": f"trace-{seq % 4}",
        "host": f"host-{seq % 2}",
        "user_agent": f"Agent/{seq % 3} (50% like Gecko)",
    }
    if seq % 2:
        made["attrs"] = {"n": seq % 3, "text": str(seq % 3), "deep": {"er": True}, "dotted.key": None}
    return made


@pytest.fixture(scope="module")
def filled(server: Deployment) -> tuple[str, dict[int, dict[str, Any]]]:
    """A service of its own with 60 entries, by number."""
    service = f"read-{uuid.uuid4().hex[:8]}"
    entries = {seq: entry(seq) for seq in range(1, 61)}
    with httpx.Client(base_url=server.url, trust_env=False, timeout=20) as speaking:
        answer = speaking.post("/ingest", json={"service": service, "batch": list(entries.values())})
        assert answer.json()["accepted"] == 60, answer.text
    return service, entries


async def ask(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get("/api/v1/logs", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.json()["success"] is True
    found: dict[str, Any] = answer.json()["data"]
    return found


def numbers(found: dict[str, Any]) -> list[int]:
    return [int(shown["message"].split()[-1]) for shown in found["entries"]]


TOO_DEEP = "page times page_size is above 100000: go on by cursor"
FILTERS: list[tuple[dict[str, Any], Any]] = [
    ({}, lambda e: True),
    ({"level": "info"}, lambda e: 9 <= number_of(e["level"]) <= 12),
    ({"level": ["error", "NOTICE"]}, lambda e: number_of(e["level"]) in (*range(10, 13), *range(17, 21))),
    ({"min_level": "warn"}, lambda e: number_of(e["level"]) >= 13),
    ({"level": "nonsense"}, lambda e: False),
    ({"search": "0%"}, lambda e: "0%" in e["message"]),
    ({"search": "a_b"}, lambda e: "a_b" in e["message"]),
    ({"search": "k\\s"}, lambda e: "k\\s" in e["message"]),
    ({"search": "größe"}, lambda e: "größe" in e["message"].lower()),
    ({"trace_id": ["trace-1", "trace-2"], "host": "host-0"}, lambda e: e["trace_id"] == "trace-2"),
    ({"start": iso(BEGIN_MS + 5 * DAY_MS), "end": iso(BEGIN_MS + 5 * DAY_MS)}, lambda e: e["seq"] // 3 == 5),
    ({"start": iso(BEGIN_MS + 1), "end": iso(BEGIN_MS)}, lambda e: False),
    ({"metadata.n": "1"}, lambda e: e.get("attrs", {}).get("n") == 1),
    ({"metadata.text": "1"}, lambda e: e.get("attrs", {}).get("text") == "1"),
    ({"metadata.deep.er": "true"}, lambda e: "attrs" in e),
    ({"metadata.dotted.key": "null"}, lambda e: "attrs" in e),
    ({"metadata.n": "9"}, lambda e: False),
    ({"user_agent": "agent/2 (50%"}, lambda e: e["seq"] % 3 == 2),
    ({"user_agent": "agent_2"}, lambda e: False),
]


@pytest.mark.parametrize(("query", "model"), FILTERS, ids=[str(query) for query, _ in FILTERS])
async def test_filter_finds_what_the_model_finds(
    client: httpx.AsyncClient,
    filled: tuple[str, dict[int, dict[str, Any]]],
    query: dict[str, Any],
    model: Any,
) -> None:
    service, entries = filled
    expected = sorted((e for e in entries.values() if model(e)), key=lambda e: (e["ts"], e["seq"]))
    oldest_first = [e["seq"] for e in expected]
    found = await ask(client, service=service, **query)
    assert numbers(found) == oldest_first[::-1]
    assert (found["total_count"], found["has_more"], found["next_cursor"]) == (len(expected), False, None)
    assert numbers(await ask(client, service=service, order="asc", **query)) == oldest_first


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_cursor_passes_every_row_once_while_others_are_written(
    client: httpx.AsyncClient, order: str
) -> None:
    service = f"cursor-{uuid.uuid4().hex[:8]}"
    body = {"service": service, "batch": [entry(seq) for seq in range(1, 41)]}
    assert (await client.post("/ingest", json=body)).status_code == 200
    seen: list[int] = []
    cursor: str | None = ""
    later = 41
    while cursor is not None:
        found = await ask(client, service=service, order=order, page_size=7, cursor=cursor)
        assert found["total_count"] is None
        assert found["has_more"] == (found["next_cursor"] is not None)
        seen += numbers(found)
        cursor = found["next_cursor"]
        # Behind the reader's back, on the side it has passed: not to be seen, and nothing else may move.
        outside = BEGIN_MS - DAY_MS if order == "asc" else BEGIN_MS + 99 * DAY_MS
        extra = {**entry(later), "ts": outside}
        later += 1
        assert (await client.post("/ingest", json={"service": service, "batch": [extra]})).status_code == 200
    expected = list(range(1, 41))
    assert seen == (expected if order == "asc" else expected[::-1])


async def test_pages_by_number(
    client: httpx.AsyncClient, filled: tuple[str, dict[int, dict[str, Any]]]
) -> None:
    service, _ = filled
    pages = [await ask(client, service=service, page=page, page_size=25) for page in (1, 2, 3, 4)]
    assert [len(page["entries"]) for page in pages] == [25, 25, 10, 0]
    assert [page["has_more"] for page in pages] == [True, True, False, False]
    assert [number for page in pages for number in numbers(page)] == list(range(60, 0, -1))
    assert {page["total_count"] for page in pages} == {60}
    after = await ask(client, service=service, page_size=25, cursor=pages[0]["next_cursor"])
    assert numbers(after) == numbers(pages[1])


async def test_entry_by_its_id(
    client: httpx.AsyncClient, filled: tuple[str, dict[int, dict[str, Any]]]
) -> None:
    service, entries = filled
    shown = (await ask(client, service=service, search="sure 51"))["entries"][0]
    given = entries[51]
    assert shown["service_name"] == service
    assert (shown["level"], shown["level_text"], shown["severity"]) == ("FATAL", "critical", 21)
    assert (shown["timestamp"], shown["metadata"]) == (iso(given["ts"]), given["attrs"])
    assert "user_id" not in shown
    value = uuid.UUID(shown["id"]).int
    ulid = "".join("0123456789ABCDEFGHJKMNPQRSTVWXYZ"[value >> 5 * place & 31] for place in range(25, -1, -1))
    for way in (shown["id"], shown["id"].upper(), shown["id"].replace("-", ""), ulid, ulid.lower()):
        answer = await client.get(f"/api/v1/logs/{way}")
        assert (answer.status_code, answer.json().get("data")) == (200, shown), way


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("/api/v1/logs/nonsense", (400, "invalid_id", "Invalid log ID format")),
        ("/api/v1/logs/trace", (400, "invalid_id", "Invalid log ID format")),
        (f"/api/v1/logs/{uuid.UUID(int=5)}", (404, "NOT_FOUND", "Log entry not found")),
        ("/api/v1/nonsense", (404, "NOT_FOUND", "nothing is here")),
        ("/api/v1/logs?start=soon", (400, "invalid_request", "must be an RFC 3339 time")),
        ("/api/v1/logs?cursor=abc", (400, "invalid_request", "is damaged")),
        ("/api/v1/logs?page=2000&page_size=100", (400, "invalid_request", TOO_DEEP)),
    ],
)  # fmt: skip
async def test_refusals_have_the_shape_of_the_door(
    client: httpx.AsyncClient, path: str, refusal: tuple[int, str, str]
) -> None:
    answer = await client.get(path)
    told = answer.json()
    assert told["success"] is False
    assert (answer.status_code, told["error"]["code"], told["error"]["message"]) == refusal


async def test_filter_as_json(
    client: httpx.AsyncClient, filled: tuple[str, dict[int, dict[str, Any]]]
) -> None:
    service, entries = filled
    document = {"service_name": service, "metadata": {"n": 1}, "order": "asc"}
    answer = await client.post("/api/v1/logs/query", json=document)
    assert numbers(answer.json()["data"]) == [
        s for s, e in entries.items() if e.get("attrs", {}).get("n") == 1
    ]
    refused = await client.post("/api/v1/logs/query", json={"servise": "x"})
    assert (refused.status_code, refused.json()["error"]["field"]) == (400, "servise")
    assert (await client.get("/api/v1/logs/query")).status_code == 400  # an id of this name cannot be
    wrong = await client.put("/api/v1/logs")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD, POST")


async def test_lines_around_one_are_its_neighbours(client: httpx.AsyncClient) -> None:
    """Also where all of them share one millisecond, and other services log between them."""
    service = f"around-{uuid.uuid4().hex[:8]}"
    batch = [{"seq": n, "ts": BEGIN_MS, "message": f"line {n}"} for n in range(1, 101)]
    for name in (service, service + "-other"):
        assert (await client.post("/ingest", json={"service": name, "batch": batch})).status_code == 200
    found = (await ask(client, service=service, search="line 80"))["entries"][0]
    answer = await client.get(f"/api/v1/logs/{found['id']}/around", params={"lines": 3})
    sides = answer.json()["data"]
    assert [line["message"] for line in sides["before"]] == ["line 77", "line 78", "line 79"]
    assert [line["message"] for line in sides["after"]] == ["line 81", "line 82", "line 83"]
    assert {line["service_name"] for side in sides.values() for line in side} == {service}
    assert (await client.get(f"/api/v1/logs/{uuid.UUID(int=7)}/around")).status_code == 404


async def test_nul_in_a_key_of_a_query_finds_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/logs?metadata.a%00=1&cursor=")
    assert (answer.status_code, answer.json()["data"]["entries"]) == (200, [])


async def test_slow_search_is_cancelled_and_holds_nobody_else_up(
    server: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More searches than there are connections for, each of which would take for ever."""
    monkeypatch.setattr(search, "QUERY_TIMEOUT_S", 0.5)
    pool = await open_pool(server.database, "test-search", most=2)
    slow = search.LogSearch(pool)
    monkeypatch.setattr(search.SQL, "select_logs", "select pg_sleep(60) from logs")
    refused = await asyncio.gather(
        *(slow.page(ZERO_TENANT, LogFilter(), limit=1) for _ in range(6)), return_exceptions=True
    )
    assert {type(error) for error in refused} == {QueryTimeout}
    running = (
        "select count(*) from pg_stat_activity where application_name = 'test-search' and state = 'active'"
    )
    connection = await asyncpg.connect(server.database, ssl=False)
    await eventually(lambda: _is_zero(connection, running))
    await connection.close()
    await pool.close()


async def _is_zero(connection: asyncpg.Connection, query: str) -> bool:
    return await connection.fetchval(query) == 0
