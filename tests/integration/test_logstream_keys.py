"""Who may use the logstream door, in its own words (logstream.md §2 and its worked cases)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from typing import Any

import pytest
import websockets

from tests.eventually import eventually
from tests.integration.conftest import Deployment
from tests.integration.keyed import ADMIN, READ, WRITE, bearer, made_key, speaking

ENTRY = {"app_key": "k", "app_id": "i", "message": "x"}
NOTHING = "Missing Authorization header or token query parameter"
HALF = "Missing X-Api-Key or X-Api-Token header"
INVALID = "Invalid API secret"


@pytest.mark.parametrize(
    ("headers", "query", "reason"),
    [
        ({}, "", NOTHING),
        ({"Authorization": "Bearer"}, "", NOTHING),
        ({"Authorization": "Bearer bad"}, "", INVALID),
        (bearer(READ), "", INVALID),
        ({"X-Api-Key": "billing-api"}, "", HALF),
        ({"X-Api-Token": WRITE}, "", HALF),
        ({"X-Api-Key": "billing-api", "X-Api-Token": "bad"}, "", INVALID),
        ({"Authorization": "Bearer bad"}, f"?token={WRITE}", INVALID),
        ({}, "?token=bad", INVALID),
        (bearer(WRITE), "", None),
        ({"Authorization": f"bearer  {WRITE}"}, "", None),
        ({"X-Api-Key": "billing-api", "X-Api-Token": WRITE}, "", None),
        ({"X-Api-Key": "billing-api"}, f"?token={WRITE}", None),
        (bearer(ADMIN), "", None),
    ],
)
async def test_writing(closed: Deployment, headers: dict[str, str], query: str, reason: str | None) -> None:
    async with speaking(closed) as client:
        answer = await client.post(f"/api/logs{query}", json=ENTRY, headers=headers)
    if reason is None:
        assert answer.status_code == 201, answer.text
        pair = "X-Api-Token" in headers
        assert answer.json()["entries"][0]["app_key"] == ("billing-api" if pair else "k")
    else:
        assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized", "reason": reason})


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({}, "", 401),
        (bearer(WRITE), "", 401),
        ({}, f"?token={READ}", 200),
        (bearer(READ), "", 200),
        (bearer(ADMIN), "", 200),
    ],
)
async def test_reading(closed: Deployment, headers: dict[str, str], query: str, status: int) -> None:
    async with speaking(closed) as client:
        answer = await client.get(f"/api/logs{query}", headers=headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.json() == {"error": "Unauthorized"}


async def test_a_key_of_a_tenant(closed: Deployment) -> None:
    bound = (await made_key(closed, "write", "read", tenant_id="logstream-a"))["key"]
    async with speaking(closed, bound) as client:
        told = (await client.post("/api/logs", json=ENTRY)).json()["entries"][0]
        assert (await client.get(f"/api/logs/{told['id']}")).json() == told
        other = await client.get("/api/logs", headers={"X-Tenant-ID": "logstream-b"})
        assert (other.status_code, other.json()) == (403, {"error": "Forbidden"})
    async with speaking(closed, READ) as client:
        assert (await client.get(f"/api/logs/{told['id']}")).status_code == 404
        assert (await client.get("/api/logs", params={"trace_id": told["trace_id"]})).json()["total"] == 0
        there = await client.get(f"/api/logs/{told['id']}", headers={"X-Tenant-ID": "logstream-a"})
        assert there.json() == told
        bad = await client.get("/api/logs", headers={"X-Tenant-ID": "a b"})
        assert (bad.status_code, bad.json()) == (400, {"error": "Invalid tenant ID format"})


async def test_a_key_of_a_service(closed: Deployment) -> None:
    bound = (await made_key(closed, "write", "read", app_key="only-this"))["key"]
    async with speaking(closed, bound) as client:
        entries = [{**ENTRY, "app_key": "other"}, ENTRY]
        told = (await client.post("/api/logs", json={**ENTRY, "logs": entries})).json()["entries"]
        assert [e["app_key"] for e in told] == ["only-this", "only-this"]
        found = (await client.get("/api/logs", params={"app_key": "k"})).json()
        assert found["total"] == 0
        assert (await client.get("/api/logs")).json()["total"] == 2


async def frames(socket: Any) -> list[dict[str, Any]]:
    """All until it is closed."""
    found = []
    with contextlib.suppress(websockets.ConnectionClosed):
        async with asyncio.timeout(15):
            while True:
                found.append(json.loads(await socket.recv()))
    return found


@pytest.mark.parametrize("query", ["", "?token=bad", f"?token={WRITE}", f"?token={READ}&tenant_id=a%20b"])
async def test_a_socket_without_a_key(closed: Deployment, query: str) -> None:
    async with websockets.connect(f"ws://127.0.0.1:{closed.main.port}/ws{query}") as socket:
        assert await frames(socket) == [
            {"type": "error", "message": "Unauthorized: invalid or missing token."}
        ]
        assert socket.close_code == 4401


async def test_a_socket_sees_its_tenant_and_ends_with_its_key(closed: Deployment) -> None:
    made = await made_key(closed, "read", tenant_id="logstream-a")
    app_key = f"ws-{uuid.uuid4().hex[:8]}"
    address = f"ws://127.0.0.1:{closed.main.port}/ws"
    async with (
        speaking(closed, ADMIN) as admin,
        websockets.connect(address, additional_headers=bearer(made["key"])) as socket,
    ):
        assert json.loads(await socket.recv())["type"] == "connected"
        for tenant in ("logstream-b", "logstream-a"):
            await admin.post("/api/logs", json={**ENTRY, "app_key": app_key}, headers={"X-Tenant-ID": tenant})
        seen: list[dict[str, Any]] = []

        async def one() -> bool:
            seen.append(json.loads(await socket.recv()))
            return seen[-1]["type"] == "log"

        await eventually(one, 10)
        in_a = await admin.get(
            "/api/logs", params={"app_key": app_key}, headers={"X-Tenant-ID": "logstream-a"}
        )
        assert [f["data"] for f in seen if f["type"] == "log"] == in_a.json()["entries"]
        await admin.request("DELETE", f"/api/v1/keys/{made['id']}", json={})
        async with asyncio.timeout(5):
            last = await frames(socket)
        assert last[-1] == {"type": "error", "message": "Unauthorized: invalid or missing token."}
        assert socket.close_code == 4401
