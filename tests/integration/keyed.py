"""A server with keys: three of the environment, and whichever a test makes."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import socketio

if TYPE_CHECKING:
    from tests.integration.conftest import Deployment

WRITE, READ, ADMIN = ("th_" + letter * 40 for letter in "wra")
KEYS = {"write_key": WRITE, "read_key": READ, "admin_key": ADMIN}
SECRET = "the words of the default tenant"


def bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def speaking(server: Deployment, key: str | None = None, **headers: str) -> httpx.AsyncClient:
    """A client that shows a key."""
    given = {**bearer(key), **{name.replace("_", "-"): value for name, value in headers.items()}}
    return httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30, headers=given)


async def made_key(server: Deployment, *scopes: str, **more: Any) -> dict[str, Any]:
    """A new key of the database: what POST /api/v1/keys tells of it."""
    body = {"name": f"test {uuid.uuid4().hex[:6]}", "scopes": list(scopes), **more}
    async with speaking(server, ADMIN) as admin:
        answer = await admin.post("/api/v1/keys", json=body)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()["data"]
    return told


class Watcher:
    """A Socket.IO client with a key, that writes down what it hears."""

    def __init__(self) -> None:
        self.client = socketio.AsyncClient(reconnection=False)
        self.heard: list[tuple[str, Any]] = []
        self.refused: list[str] = []
        self.client.on("*", self._hear)
        self.client.on("connect_error", self._refuse)

    async def _hear(self, event: str, payload: Any) -> None:
        self.heard.append((event, payload))

    async def _refuse(self, reason: Any) -> None:
        self.refused.append(reason["message"] if isinstance(reason, dict) else str(reason))

    def of(self, event: str) -> list[Any]:
        return [payload for name, payload in self.heard if name == event]

    async def connect(self, url: str, key: str | None = None, headers: dict[str, str] | None = None) -> bool:
        """Whether it was let in."""
        with suppress(socketio.exceptions.ConnectionError):
            await self.client.connect(
                url, headers=headers or {}, auth={"token": key} if key else None,
                transports=["websocket"], wait_timeout=10,
            )  # fmt: skip
        return bool(self.client.connected)

    async def leave(self) -> None:
        await self.client.shutdown()
        if self.client.eio.http is not None:
            await self.client.eio.http.close()
