"""Every answer says what the ledger knows about its window."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from tests.eventually import eventually
from tests.integration.conftest import Deployment
from tracehub.pipeline.completeness import Hole
from tracehub.protocol.times import iso

BEGIN_MS = 1_731_000_000_000
MINUTE_MS = 60_000


async def known(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get("/api/v1/logs", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["meta"]["completeness"]
    return found


async def send(client: httpx.AsyncClient, service: str, numbers: list[int], **more: Any) -> None:
    batch = [{"seq": n, "message": "x", "ts": BEGIN_MS + n * MINUTE_MS} for n in numbers]
    answer = await client.post("/ingest", json={"service": service, "batch": batch, **more})
    assert answer.status_code == 200, answer.text


def minute(n: float) -> str:
    return iso(BEGIN_MS + int(n * MINUTE_MS))


async def test_a_gap_makes_the_windows_it_may_lie_in_incomplete(client: httpx.AsyncClient) -> None:
    service = f"hole-{uuid.uuid4().hex[:8]}"
    await send(client, service, [1, 2, 3, 7, 8])
    whole = {"complete": True, "missing": 0, "lost": 0, "inFlight": 0, "services": []}
    gap = {"complete": False, "missing": 3, "lost": 0, "inFlight": 0}
    gap["services"] = [{"service": service, "missing": 3, "lost": 0, "inFlight": 0}]
    assert await known(client, service=service) == gap
    assert await known(client, service=service, start=minute(3.5), end=minute(4)) == gap
    assert await known(client, service=service, end=minute(2)) == whole
    assert await known(client, service=service, start=minute(7.1)) == whole
    assert await known(client, service="another") == whole
    assert service in {s["service"] for s in (await known(client))["services"]}
    stats = await client.get(
        "/api/v1/logs/stats", params={"service": service, "start": minute(0), "end": minute(9)}
    )
    assert stats.json()["meta"]["completeness"] == gap
    counts = await client.post("/api/v1/logs/aggregate", json={"service_name": service})
    assert counts.json()["meta"]["completeness"] == gap
    query = await client.post("/api/v1/logs/query", json={"service_name": service})
    assert query.json()["meta"]["completeness"] == gap
    await send(client, service, [4, 5, 6])
    assert await known(client, service=service) == whole


async def test_what_was_signed_off_is_lost(client: httpx.AsyncClient) -> None:
    service = f"hole-{uuid.uuid4().hex[:8]}"
    await send(client, service, [1, 2, 5], lost=[[3, 4, "disk full"]])
    found = await known(client, service=service)
    assert (found["complete"], found["missing"], found["lost"]) == (False, 0, 2)


async def test_what_is_missing_before_the_first_entry_concerns_all_that_is_older(
    client: httpx.AsyncClient,
) -> None:
    service = f"hole-{uuid.uuid4().hex[:8]}"
    await send(client, service, [5, 6])
    assert (await known(client, service=service, end=minute(-1000)))["missing"] == 4
    assert (await known(client, service=service, start=minute(5.5)))["missing"] == 0


async def test_what_waits_is_in_flight(deploy: Any) -> None:
    apart: Deployment = deploy()
    apart.backend()
    service = f"hole-{uuid.uuid4().hex[:8]}"
    async with httpx.AsyncClient(base_url=apart.url, trust_env=False, timeout=20) as client:
        batch = [{"seq": n, "message": "x"} for n in range(1, 6)]
        answer = await client.post("/ingest?acks=queued", json={"service": service, "batch": batch})
        assert answer.status_code == 202, answer.text
        found = await known(client, service=service)
        assert (found["complete"], found["inFlight"]) == (False, 5)
        apart.worker()

        async def arrived() -> bool:
            return bool((await known(client, service=service))["complete"])

        assert await eventually(arrived, 20)


@pytest.mark.parametrize(
    ("after", "before", "window", "touches"),
    [
        (10, 20, (None, None), True),
        (10, 20, (11, 12), True),
        (10, 20, (20, 30), True),
        (10, 20, (21, 30), False),
        (10, 20, (1, 9), False),
        (20, 10, (12, 13), True),
        (10, None, (1, 9), False),
        (10, None, (99, 100), True),
        (None, 10, (1, 2), True),
        (None, 10, (11, None), False),
        (None, None, (5, 5), True),
    ],
)
def test_where_a_hole_lies(after: int | None, before: int | None, window: Any, touches: bool) -> None:
    assert Hole("s", 1, False, after, before).touches(*window) is touches
