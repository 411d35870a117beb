"""Who is silent on a WebSocket is let go, and who only answers pings is not."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
import websockets

from apps.backend.websocket import GONE, PatientProtocol
from tests.eventually import eventually

PING_S = 0.05
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: " + base64.b64encode(bytes(16)) + b"\r\n\r\n"
)
PING, CLOSE = 0x89, 0x88


class Hasty(PatientProtocol):
    """So that nobody waits for a minute."""

    silent_s = 6 * PING_S


async def application(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "websocket"
    while (await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.accept"})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(
        application, port=0, ws=Hasty, ws_ping_interval=PING_S, lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await running


async def test_a_silent_peer_is_pinged_and_then_let_go(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(UPGRADE)
    await reader.readuntil(b"\r\n\r\n")
    pings = 0
    while (head := await reader.readexactly(2))[0] == PING:
        pings += 1
        await reader.readexactly(head[1])
    assert head[0] == CLOSE
    assert int.from_bytes((await reader.readexactly(head[1]))[:2], "big") == GONE
    assert pings >= 3
    writer.close()


async def test_a_peer_that_answers_pings_stays(port: int) -> None:
    async with websockets.connect(f"ws://127.0.0.1:{port}/ws", ping_interval=None) as socket:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.recv(), 3 * Hasty.silent_s)
        await (await socket.ping())
