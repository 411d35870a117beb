"""The logstream door's raw WebSocket (logstream.md §6): GET /ws."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from apps.backend.answers import scoped
from apps.backend.context import Context
from apps.backend.live.sockets import Client
from tracehub.protocol import logstream
from tracehub.protocol.credentials import Kind
from tracehub.protocol.errors import InvalidField, TraceHubError
from tracehub.protocol.filters import LogFilter
from tracehub.protocol.grants import READ, Caller, Door
from tracehub.runtime.clock import monotonic_s

MESSAGES_PER_SECOND_MAX: Final = 20
TOO_MANY_MESSAGES, TOO_MANY_CLIENTS, UNAUTHORIZED = 1008, 1013, 4401
LOOK_S: Final = 2.0  # how soon a socket sees that its key has ended
DOOR: Final = Door(logstream.DOOR, Kind.BEARER | Kind.TOKEN, tenant_in_query=True)
_FILTERS: Final = frozenset(
    ("app_key", "app_id", "level", "min_level", "category", "search", "trace_id", "door")
)
_UNAUTHORIZED: Final = {"type": "error", "message": "Unauthorized: invalid or missing token."}
_INVALID_FILTER: Final = {"type": "error", "message": "Invalid filter."}


async def socket(websocket: WebSocket) -> None:
    """One client, until it goes."""
    ctx: Context = websocket.app.state.context
    await websocket.accept()
    try:
        caller = ctx.access.require(websocket, READ, door=DOOR)
    except TraceHubError:
        await _refuse(websocket)
        return
    await _Session(ctx, websocket, caller).run()


async def _refuse(websocket: WebSocket) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it has gone already
        await websocket.send_text(orjson.dumps(_UNAUTHORIZED).decode())
        await websocket.close(UNAUTHORIZED)


class _Session:
    """One open socket."""

    def __init__(self, ctx: Context, websocket: WebSocket, caller: Caller) -> None:
        self._ctx = ctx
        self._websocket = websocket
        self._caller = caller
        self._client = Client(caller.tenant_id, scoped(LogFilter(), caller))

    async def run(self) -> None:
        if not self._ctx.sockets.join(self._client):
            await self._websocket.close(TOO_MANY_CLIENTS)
            return
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._send({"type": "connected", "connections": self._connections()})
            if not self._filter(self._websocket.query_params.multi_items()):
                await self._send(_INVALID_FILTER)
            tasks = [asyncio.create_task(run()) for run in (self._hand_on, self._listen, self._watch)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except (WebSocketDisconnect, RuntimeError):  # it has gone meanwhile
            pass
        finally:
            self._ctx.sockets.leave(self._client)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hand_on(self) -> None:
        while True:
            await self._client.backlog.news.wait()
            for frame in self._client.take():
                await self._websocket.send_text(frame.decode())

    async def _watch(self) -> None:
        """Until the key has ended."""
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._ctx.access.stands(self._caller):
                await _refuse(self._websocket)
                return

    async def _listen(self) -> None:
        """What a client says, until it goes or says too much."""
        since_s, count = monotonic_s(), 0
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if monotonic_s() - since_s >= 1:
                since_s, count = monotonic_s(), 0
            count += 1
            if count > MESSAGES_PER_SECOND_MAX:
                await self._websocket.close(TOO_MANY_MESSAGES)
                return
            said = _read(message.get("text"))
            if (answer := self._answer(said)) is not None:
                await self._send(answer)

    def _answer(self, said: Mapping[str, Any]) -> dict[str, Any] | None:
        """To what is none of these nothing is answered."""
        kind = said.get("type")
        if kind == "ping":
            return {"type": "pong"}
        if kind == "stats":
            return {"type": "stats", "data": {"connections": self._connections()}}
        if kind == "filter":
            asked = said.get("data")
            if isinstance(asked, dict) and (pairs := _pairs(asked)) is not None and self._filter(pairs):
                return {"type": "filter", "data": asked}
            return _INVALID_FILTER
        return None

    def _filter(self, pairs: list[tuple[str, str]]) -> bool:
        """Look through another filter from now on; False leaves the old one."""
        try:
            wanted = logstream.read_filter([pair for pair in pairs if pair[0] in _FILTERS])
        except InvalidField:
            return False
        self._client.wanted = scoped(wanted, self._caller)
        return True

    def _connections(self) -> int:
        return self._ctx.sockets.count(self._client.tenant_id)

    async def _send(self, frame: Mapping[str, Any]) -> None:
        await self._websocket.send_text(orjson.dumps(frame).decode())


def _read(text: str | None) -> dict[str, Any]:
    """A message; what is no JSON object is an empty one."""
    try:
        said = orjson.loads(text or "null")
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _pairs(asked: Mapping[str, Any]) -> list[tuple[str, str]] | None:
    """The keys of a filter frame as a query string would have them; None: one is no text."""
    pairs: list[tuple[str, str]] = []
    for name, value in asked.items():
        if name not in _FILTERS or value is None:
            continue
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, str):
                return None
            pairs.append((name, one))
    return pairs
