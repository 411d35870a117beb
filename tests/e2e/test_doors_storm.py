"""Writers at the doors where the server numbers, while every part is killed: what was told 2xx is there, once."""

from __future__ import annotations

import asyncio
import random
import uuid
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx
import pytest

from tests.e2e.stack import Stack, verify
from tests.eventually import eventually

WRITERS = 6
HARMS = ("worker-1", "backend", "postgres", "redis", "wipe", "worker-2", "redis", "backend")
REPEAT = (409, 429, 503)
VOIDED = """
select coalesce(sum(numbers_in(missing_ranges(received, lost, '{}', upper(received + lost) - 1))), 0)::bigint
from ack_state where numbering like '@%'"""


@dataclass
class Told:
    """What answers promised: ids of entries, and (service, messages) of requests that mean once."""

    ids: dict[str, str] = field(default_factory=dict)
    once: list[str] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)
    requests: int = 0


async def insist(
    client: httpx.AsyncClient, path: str, document: Any, headers: dict[str, str]
) -> httpx.Response:
    """Repeat one request until it is told that it is stored."""
    while True:
        try:
            answer = await client.post(path, json=document, headers=headers)
        except httpx.HTTPError:
            await _gone(client)
            continue
        if answer.status_code in (200, 201):
            return answer
        assert answer.status_code in REPEAT, answer.text
        await _gone(client)


async def _gone(client: httpx.AsyncClient) -> None:
    """Until the server answers at all."""

    async def answers() -> bool:
        try:
            return (await client.get("/live")).status_code == 200
        except httpx.HTTPError:
            return False

    await eventually(answers, 60)


async def write(stack: Stack, writer: int, told: Told, stop: asyncio.Event) -> None:
    """With ids of its own, with Idempotency-Keys, and as logstream clients do, in turn."""
    async with httpx.AsyncClient(base_url=stack.http, trust_env=False, timeout=20) as client:
        number = 0
        while not stop.is_set():
            number += 1
            name = f"{writer}-{number}"
            if number % 3 == 0:
                own = str(uuid.uuid4())
                entry = {"service_name": "ids", "message": name, "id": own}
                await insist(client, "/api/v1/logs", entry, {})
                told.ids[own] = name
            elif number % 3 == 1:
                entries = [{"service_name": "once", "message": f"{name}-{n}"} for n in range(5)]
                await insist(client, "/api/v1/logs/batch", {"entries": entries}, {"Idempotency-Key": name})
                told.once += [f"{name}-{n}" for n in range(5)]
            else:
                document = {"app_key": "frames", "app_id": "i", "logs": [{"message": name}]}
                answer = await insist(client, "/api/logs", document, {"Idempotency-Key": name})
                told.frames.append(answer.json()["entries"][0]["id"])
            told.requests += 1


@pytest.mark.timeout(240)
async def test_what_was_told_is_there_once(stack: Stack, rng: random.Random) -> None:
    told, stop = Told(), asyncio.Event()
    writers = [asyncio.create_task(write(stack, n, told, stop)) for n in range(WRITERS)]
    for harm in HARMS:
        before = told.requests
        more = rng.randint(20, 60)
        await eventually(lambda most=before + more: told.requests >= most or _failed(writers), 60)
        if harm == "wipe":
            stack.wipe_queue()
        else:
            await stack.kill(harm)
            await stack.is_back(harm)
    last = told.requests
    await eventually(lambda: told.requests >= last + 50 or _failed(writers), 60)
    stop.set()
    await asyncio.gather(*writers)
    connection = await asyncpg.connect(stack.database_url, ssl=False)
    try:
        rows = await connection.fetch(
            "select id, service, message from logs where service in ('ids', 'once', 'frames')"
        )
        by_id = {str(row["id"]): row["message"] for row in rows if row["service"] == "ids"}
        assert by_id == told.ids  # every one that was told, and none twice: ids are unique
        assert sum(row["service"] == "ids" for row in rows) == len(told.ids)
        once = sorted(row["message"] for row in rows if row["service"] == "once")
        assert once == sorted(told.once)
        frames = [row["message"] for row in rows if row["service"] == "frames"]
        assert len(frames) == len(set(frames)) == len(told.frames)

        async def closed() -> bool:
            return await connection.fetchval(VOIDED) == 0

        await eventually(closed, 75)  # numbers of jobs that were lost are void within a minute
    finally:
        await connection.close()
    status, said = await asyncio.to_thread(verify, stack)
    assert status == 0, said


def _failed(writers: list[asyncio.Task[None]]) -> bool:
    for writer in writers:
        if writer.done():
            writer.result()
    return False
