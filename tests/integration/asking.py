"""Asking a server over HTTP: bodies, made short, and what a refusal must look like."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx

MIB = 1024 * 1024
BODY_MAX = 4 * MIB
BODY_TIMEOUT_S = 1.5
JSON_TYPE = {"Content-Type": "application/json"}


async def post(client: httpx.AsyncClient, body: Any, **headers: str) -> httpx.Response:
    """POST any text, bytes or JSON value."""
    if not isinstance(body, (str, bytes)):
        body = json.dumps(body)
    given = httpx.Headers(JSON_TYPE)
    given.update({name.replace("_", "-"): value for name, value in headers.items()})
    return await client.post("/ingest", content=body, headers=given)


def assert_refused(answer: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert (error["code"], error.get("field")) == (code, field), answer.text
    assert set(error) == {"code", "message"} | ({"field"} if field else set())
    assert error["message"]
    wants_patience = status in (429, 503)
    assert answer.headers.get("retry-after", "").isdigit() == wants_patience
    for leaked in ("Traceback", "asyncpg", "msgspec", "Error(", ".py", "SELECT", "tracehub."):
        assert leaked not in answer.text


async def assert_nothing_stored(client: httpx.AsyncClient, service: str) -> None:
    assert (await client.get(f"/ack/{service}")).status_code == 404


STRINGS = (
    "level", "message", "request_id", "trace_id", "span_id", "user_id", "category", "source", "host",
    "environment", "user_agent", "release",
)  # fmt: skip


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def batch(service: str, *numbers: int, **more: Any) -> dict[str, Any]:
    """A body whose messages say their numbers."""
    entries = [{"seq": n, "level": "info", "message": f"message {n}"} for n in numbers]
    return {"service": service, "batch": entries, **more}


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth
