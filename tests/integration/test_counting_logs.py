"""Statistics, aggregates, services and storage say what a plain count of the same entries says."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any

import asyncpg
import httpx
import pytest

from tests.eventually import eventually
from tests.integration.conftest import Deployment
from tracehub.protocol.severity import number_of, word_of
from tracehub.protocol.times import iso

HOUR_MS = 3600 * 1000
BEGIN_MS = 1_731_000_000_000 // HOUR_MS * HOUR_MS
LEVELS = ("debug", "info", "notice", "warn", "error", "fatal")


def made(n: int, services: list[str]) -> dict[str, Any]:
    """Every 17 minutes one, over a good two days."""
    return {
        "service_name": services[n % len(services)],
        "message": f"needle {n}" if n % 10 == 0 else f"hay {n}",
        "level": LEVELS[n % len(LEVELS)],
        "timestamp": iso(BEGIN_MS + n * 17 * 60_000),
        "host": f"h{n % 3}",
        "metadata": {"shop": f"s{n % 4}", "deep": {"er": n % 2}},
    }


@pytest.fixture(scope="module")
def filled(server: Deployment) -> tuple[list[str], list[dict[str, Any]]]:
    services = [f"count-{uuid.uuid4().hex[:8]}-{n}" for n in range(3)]
    entries = [made(n, services) for n in range(200)]
    with httpx.Client(base_url=server.url, trust_env=False, timeout=20) as speaking:
        for at in range(0, 200, 50):  # half by the step for small groups, half by the long one
            answer = speaking.post("/api/v1/logs/batch", json={"entries": entries[at : at + 50]})
            assert answer.json()["data"] == {"count": 50}, answer.text
        more = [made(n, services) for n in range(200, 400)]
        assert speaking.post("/api/v1/logs/batch", json={"entries": more}).status_code == 201
    return services, entries + more


def word(entry: dict[str, Any]) -> str:
    return word_of(number_of(entry["level"]))


async def stats(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get("/api/v1/logs/stats", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["data"]
    return found


RANGES = [
    (0, 400 * 17 * 60_000),
    (1, 399 * 17 * 60_000),
    (90 * 60_000, 3000 * 60_000 + 1),
    (5 * 60_000, 50 * 60_000),
    (HOUR_MS, 2 * HOUR_MS - 1),
    (17 * 60_000, 17 * 60_000),
]


@pytest.mark.parametrize("span", RANGES)
@pytest.mark.parametrize("extra", [{}, {"min_level": "WARN"}, {"search": "needle"}, {"host": "h1"}])
async def test_statistics(
    client: httpx.AsyncClient,
    filled: tuple[list[str], list[dict[str, Any]]],
    span: tuple[int, int],
    extra: dict[str, str],
) -> None:
    services, entries = filled
    start, end = iso(BEGIN_MS + span[0]), iso(BEGIN_MS + span[1])
    found = await stats(client, service=services, start=start, end=end, **extra)
    expected = [
        e
        for e in entries
        if start <= e["timestamp"] <= end
        and ("min_level" not in extra or word(e) in ("WARN", "ERROR", "FATAL"))
        and ("search" not in extra or "needle" in e["message"])
        and ("host" not in extra or e["host"] == "h1")
    ]
    assert found["total_count"] == len(expected)
    assert found["level_counts"] == dict(Counter(map(word, expected)))
    assert found["service_counts"] == dict(Counter(e["service_name"] for e in expected))
    assert found["time_range"] == {"start": start, "end": end}
    listed = await client.get(
        "/api/v1/logs", params={"service": services, "start": start, "end": end, "page_size": 1, **extra}
    )
    assert listed.json()["data"]["total_count"] == len(expected)


async def test_statistics_of_the_last_day(client: httpx.AsyncClient) -> None:
    service = f"count-{uuid.uuid4().hex[:8]}"
    await client.post("/api/v1/logs", json={"service_name": service, "message": "now"})
    assert (await stats(client, service=service))["total_count"] == 1
    answer = await client.get("/api/v1/logs/stats", params={"start": "yesterday"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "start")


async def aggregate(client: httpx.AsyncClient, interval: str, **document: Any) -> list[dict[str, Any]]:
    answer = await client.post("/api/v1/logs/aggregate", params={"interval": interval}, json=document)
    assert answer.status_code == 200, answer.text
    assert answer.json()["meta"]["interval"] == (interval if interval in STEPS else "hour")
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


STEPS = {"minute": 60_000, "hour": HOUR_MS, "day": 24 * HOUR_MS}
GROUPS = {
    "service_name": lambda e: e["service_name"],
    "level": word,
    "host": lambda e: e["host"],
    "metadata.shop": lambda e: e["metadata"]["shop"],
    "metadata.deep.er": lambda e: str(e["metadata"]["deep"]["er"]),
    "metadata.none": lambda e: None,
}


@pytest.mark.parametrize("interval", ["minute", "hour", "day", "", "year"])
@pytest.mark.parametrize("group", [None, *GROUPS])
async def test_aggregates(
    client: httpx.AsyncClient,
    filled: tuple[list[str], list[dict[str, Any]]],
    interval: str,
    group: str | None,
) -> None:
    services, entries = filled
    rows = await aggregate(client, interval, service_name=services, **({"group_by": group} if group else {}))
    step = STEPS.get(interval, HOUR_MS)
    expected: Counter[Any] = Counter()
    levels: Counter[Any] = Counter()
    for n, e in enumerate(entries):
        bucket = iso((BEGIN_MS + n * 17 * 60_000) // step * step)
        name = (bucket, GROUPS[group](e) if group else None)
        expected[name] += 1
        levels[*name, word(e)] += 1
    assert {(row["bucket"], row.get("group")): row["count"] for row in rows} == dict(expected)
    assert {
        (row["bucket"], row.get("group"), level): n
        for row in rows
        for level, n in row["level_counts"].items()
    } == dict(levels)
    assert [row["bucket"] for row in rows] == sorted(row["bucket"] for row in rows)


async def test_past_the_largest_groups_there_is_another(client: httpx.AsyncClient) -> None:
    service = f"count-{uuid.uuid4().hex[:8]}"
    entries = [
        {"service_name": service, "message": "x", "host": f"host-{n}"}
        for n in range(150)
        for _ in range(1 + (n < 40))
    ]
    await client.post("/api/v1/logs/batch", json={"entries": entries})
    rows = await aggregate(client, "day", service_name=service, group_by="host")
    by_group = {row["group"]: row["count"] for row in rows}
    assert len(by_group) == 101
    assert by_group["__other__"] == 50
    assert all(by_group[f"host-{n}"] == 2 for n in range(40))


@pytest.mark.parametrize("interval", ["hour", "day"])
async def test_past_the_largest_services_there_is_another(client: httpx.AsyncClient, interval: str) -> None:
    headers = {"x-tenant-id": f"many-{uuid.uuid4().hex[:8]}"}
    entries = [
        {"service_name": f"s-{n:03}", "message": "x", "level": "error" if hour else "info",
         "timestamp": f"2024-03-05T0{hour}:10:00Z"}
        for n in range(150)
        for hour in (1, 2)
        for _ in range(1 + (n < 40))
    ]  # fmt: skip
    await client.post("/api/v1/logs/batch", json={"entries": entries}, headers=headers)
    answer = await client.post(
        "/api/v1/logs/aggregate",
        params={"interval": interval},
        json={"group_by": "service_name"},
        headers=headers,
    )
    rows = answer.json()["data"]
    buckets = {row["bucket"] for row in rows}
    assert len(buckets) == (2 if interval == "hour" else 1)
    for bucket in buckets:
        by_group = {row["group"]: row["count"] for row in rows if row["bucket"] == bucket}
        times = 2 // len(buckets)
        assert len(by_group) == 101
        assert by_group["__other__"] == 50 * times
        assert all(by_group[f"s-{n:03}"] == 2 * times for n in range(40))
    assert sum(row["count"] for row in rows) == len(entries)


@pytest.mark.parametrize(
    ("interval", "document", "field"),
    [
        ("minute", {"start": "2024-01-01T00:00:00Z", "end": "2024-02-01T00:00:00Z"}, "interval"),
        ("hour", {"group_by": "message"}, "group_by"),
        ("hour", {"group_by": "metadata."}, "group_by"),
        ("hour", {"group_by": ["host"]}, "group_by"),
        ("hour", {"page": {}}, None),
    ],
)
async def test_bad_aggregates(
    client: httpx.AsyncClient, interval: str, document: Any, field: str | None
) -> None:
    answer = await client.post("/api/v1/logs/aggregate", params={"interval": interval}, json=document)
    if field is None:
        assert answer.status_code == 200
    else:
        assert (answer.status_code, answer.json()["error"].get("field")) == (400, field)


async def test_an_idle_range_has_no_buckets(client: httpx.AsyncClient) -> None:
    assert await aggregate(client, "hour", service_name=f"nobody-{uuid.uuid4().hex}") == []


async def test_services_are_sorted_and_distinct(
    client: httpx.AsyncClient, filled: tuple[list[str], list[dict[str, Any]]]
) -> None:
    names = (await client.get("/api/v1/logs/services")).json()["data"]
    assert names == sorted(set(names))
    assert set(filled[0]) <= set(names)


async def test_storage(client: httpx.AsyncClient, server: Deployment) -> None:
    connection = await asyncpg.connect(server.database, ssl=False)
    try:

        async def agrees() -> bool:
            rows = await connection.fetchval(MINE)
            share = (await client.get("/api/v1/logs/storage")).json()["data"]
            assert share["row_count"] == rows
            assert 0 < share["size_bytes"] <= await connection.fetchval(SIZE)
            assert share["size_mb"] == share["size_bytes"] / 2**20
            return True

        assert await eventually(agrees)
    finally:
        await connection.close()


MINE = f"select count(*) from logs where tenant_id = '{uuid.UUID(int=0)}'"
SIZE = "select sum(pg_total_relation_size(inhrelid)) from pg_inherits where inhparent = 'logs'::regclass"


async def test_counts_stay_the_same_when_they_are_folded(
    client: httpx.AsyncClient, server: Deployment
) -> None:
    service = f"count-{uuid.uuid4().hex[:8]}"
    entries = [{"service_name": service, "message": "x"}] * 7
    await client.post("/api/v1/logs/batch", json={"entries": entries})
    connection = await asyncpg.connect(server.database, ssl=False)
    try:

        async def folded() -> bool:
            assert (await stats(client, service=service))["total_count"] == 7
            return bool(
                await connection.fetchval("select count(*) from log_counts where service = $1", service)
            )

        await eventually(folded, 25)
        assert (
            await connection.fetchval("select sum(entries) from log_counts where service = $1", service) == 7
        )
    finally:
        await connection.close()


async def test_traces_and_requests(client: httpx.AsyncClient) -> None:
    trace, asked = uuid.uuid4().hex, f"req/{uuid.uuid4().hex}"
    entries = [
        {
            "service_name": "t",
            "message": f"{n}",
            "trace_id": trace,
            "request_id": asked,
            "timestamp": iso(BEGIN_MS - n),
        }
        for n in range(5)
    ]
    await client.post("/api/v1/logs/batch", json={"entries": entries})
    for path in (f"/api/v1/logs/trace/{trace}", f"/api/v1/logs/request/{asked.replace('/', '%2F')}"):
        answer = (await client.get(path)).json()
        assert [e["message"] for e in answer["data"]] == ["4", "3", "2", "1", "0"]
        assert "meta" not in answer
    assert (await client.get("/api/v1/logs/trace/unknown")).json()["data"] == []
    for what in ("trace", "request"):
        answer = await client.get(f"/api/v1/logs/{what}/{'x' * 65}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, f"invalid_{what}_id")
    bare = await client.get("/api/v1/logs/trace")
    assert (bare.status_code, bare.json()["error"]["code"]) == (400, "invalid_id")


async def test_a_long_trace_is_cut_and_goes_on(client: httpx.AsyncClient) -> None:
    trace = uuid.uuid4().hex
    for part in range(3):
        entries = [
            {
                "service_name": "t",
                "message": f"{part * 4000 + n}",
                "trace_id": trace,
                "timestamp": iso(BEGIN_MS + part * 4000 + n),
            }
            for n in range(4000)
        ]
        assert (await client.post("/api/v1/logs/batch", json={"entries": entries})).status_code == 201
    first = (await client.get(f"/api/v1/logs/trace/{trace}")).json()
    assert (len(first["data"]), first["meta"]["truncated"]) == (10_000, True)
    rest = await client.get(f"/api/v1/logs/trace/{trace}", params={"cursor": first["meta"]["next_cursor"]})
    assert "meta" not in rest.json()
    assert [int(e["message"]) for e in first["data"] + rest.json()["data"]] == list(range(12_000))


async def test_answers_are_remembered_until_something_is_committed(client: httpx.AsyncClient) -> None:
    service = f"cache-{uuid.uuid4().hex[:8]}"

    async def ask(**headers: str) -> tuple[str, int]:
        answer = await client.get("/api/v1/logs", params={"service": service}, headers=headers)
        return answer.headers["x-cache"], answer.json()["data"]["total_count"]

    async def hit() -> bool:  # other tests of this process may commit in between
        return (await ask())[0] == "hit"

    await ask()
    assert await eventually(hit)
    assert (await ask(**{"Cache-Control": "no-cache"}))[0] == "miss"
    for n in range(1, 6):
        await client.post("/api/v1/logs", json={"service_name": service, "message": "x"})
        assert (await ask())[1] == n
