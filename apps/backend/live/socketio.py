"""Socket.IO (ingest.md §7): what is stored, what is acknowledged, who crashed; to everyone who may look.

A client shows its key as `auth: {token}`, `Authorization` or the login cookie, and hears of its own tenant and
service only; what happens to workers and faults is everybody's. When its key ends, so does its connection.

Every backend hears the same live bus and tells its own clients, so each client sees every event whichever
backend it is connected to. A client that reads slowly never slows ingest: its backlog is looked at before
each emit, cut, and it is told (`log:skipped`).
Limits: live_entries_per_second_max log:new events a second, BACKLOG_MAX packets per client, CLIENTS_MAX.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson
import socketio
import structlog
from starlette.requests import HTTPConnection

from apps.backend.access import Access
from apps.backend.live.board import Board
from apps.backend.live.snapshot import Snapshots, try_snapshot
from apps.backend.live.view import View
from tracehub.protocol.credentials import Credential, Kind
from tracehub.protocol.errors import TraceHubError, Unavailable
from tracehub.protocol.grants import READ, Caller, Door
from tracehub.protocol.messages import LiveMessage, decode_shown
from tracehub.runtime.clock import Clock, monotonic_s

log = structlog.get_logger()

_Stream: TypeAlias = tuple[str, str, int]  # tenant, service, epoch

SNAPSHOT_S = 2.0
ACKS_PER_SECOND_MAX = 10
BACKLOG_MAX = 1_000
CLIENTS_MAX = 1_000
CHUNK = 50
RECHECK_TICKS = 5
CLOSING_S = 2.0
DOOR = Door("ingest", tenant_in_query=True)
EVERYBODYS = frozenset(("worker:crashed", "worker:recovered", "sim:control"))


class _Json:
    """orjson under the interface that python-socketio wants."""

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        return orjson.dumps(value).decode()

    @staticmethod
    def loads(text: str | bytes, **_: Any) -> Any:
        return orjson.loads(text)


@dataclass(slots=True)
class Viewer:
    """A connected client, what it sees, and how much it missed."""

    caller: Caller
    view: View
    skipped: int = 0


class Live:
    """The Socket.IO server of one backend."""

    def __init__(
        self, access: Access, board: Board, snapshots: Snapshots, clock: Clock, *, live_max: int
    ) -> None:
        self._access = access
        self._board = board
        self._snapshots = snapshots
        self._clock = clock
        self._live_max = live_max
        self._second = 0
        self._left = live_max
        self._acked_at: dict[_Stream, float] = {}
        self._late_acks: dict[_Stream, dict[str, Any]] = {}
        self._viewers: dict[str, Viewer] = {}
        self._aside: set[asyncio.Task[None]] = set()
        self.server = socketio.AsyncServer(
            async_mode="asgi", json=_Json, logger=False,
            engineio_logger=False, max_http_buffer_size=64 * 1024, ping_interval=20, ping_timeout=20,
        )  # fmt: skip
        self.server.on("connect", self._connect)
        self.server.on("disconnect", self._disconnect)

    async def _connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        token = auth.get("token") if isinstance(auth, dict) else None
        shown = Credential(Kind.TOKEN, token.strip()) if isinstance(token, str) and token.strip() else None
        try:
            caller = self._access.require(HTTPConnection(environ["asgi.scope"]), READ, door=DOOR, shown=shown)
        except TraceHubError as refusal:
            word = "unavailable" if isinstance(refusal, Unavailable) else "unauthorized"
            raise socketio.exceptions.ConnectionRefusedError(word) from None
        if len(self._viewers) >= CLIENTS_MAX:
            raise socketio.exceptions.ConnectionRefusedError("too_many_clients")
        viewer = self._viewers[sid] = Viewer(caller, View.of(caller))
        self._board.clients[viewer.view.tenant_id] += 1
        # The handler must end first: only then does the client hear that it is connected.
        self._do_aside(self._greet(sid, viewer.view))

    def _do_aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def _greet(self, sid: str, view: View) -> None:
        snapshot = await try_snapshot(self._snapshots, view)
        if snapshot is not None and sid in self._viewers:
            await self.server.emit("metrics:snapshot", snapshot, to=sid)

    async def _disconnect(self, sid: str, reason: Any = None) -> None:
        viewer = self._viewers.pop(sid, None)
        if viewer is not None:
            self._board.clients[viewer.view.tenant_id] -= 1

    async def recheck(self) -> None:
        """End the connections of those who would not be let in any more."""
        for sid, viewer in list(self._viewers.items()):
            if not self._access.stands(viewer.caller):
                eio_sid = self.server.manager.eio_sid_from_sid(sid, "/")
                await self.server.disconnect(sid)
                if eio_sid:
                    self._do_aside(self._close(eio_sid))

    async def _close(self, eio_sid: str) -> None:
        """The connection itself; one who reads nothing is not waited for."""
        with contextlib.suppress(TimeoutError, KeyError):
            async with asyncio.timeout(CLOSING_S):
                await self.server.eio.disconnect(eio_sid)

    async def run(self) -> None:
        """Send snapshots and late acks, and look who may still look, until cancelled."""
        while True:
            for tick in range(int(SNAPSHOT_S * ACKS_PER_SECOND_MAX)):
                await asyncio.sleep(1 / ACKS_PER_SECOND_MAX)
                await self._send_late_acks()
                if tick % RECHECK_TICKS == 0:
                    await self.recheck()
            for view in {viewer.view for viewer in self._viewers.values()}:
                snapshot = await try_snapshot(self._snapshots, view)
                if snapshot is not None:
                    await self._emit("metrics:snapshot", snapshot, view.__eq__)

    async def heard(self, live: LiveMessage) -> None:
        """One message of the live bus."""
        if live.event == "stored":
            self._board.on_stored(live.data)
            if self._viewers:
                await self._stored(live.data)
        elif live.event in EVERYBODYS:
            await self._emit(live.event, live.shown())
        elif live.event == "replay:completed" and "tenant" in live.data:
            await self._emit(live.event, live.shown(), _of(live.data["tenant"], live.data["service"]))

    async def _stored(self, data: dict[str, Any]) -> None:
        for completed in data["replays"]:
            told = LiveMessage("replay:completed", completed)
            await self._emit(told.event, told.shown(), _of(completed["tenant"], completed["service"]))
        for tenant_id, service, count, _ in data["services"]:
            self._board.on_left_out(tenant_id, service, count)
        for stream in data["streams"]:
            key = (stream["tenant"], stream["service"], stream["epoch"])
            self._late_acks[key] = {
                name: stream[name] for name in ("service", "epoch", "ackTill", "missing", "missingCount")
            }
        await self._send_late_acks()
        second = self._clock() // 1000
        if second != self._second:
            self._second, self._left = second, self._live_max
        shown = decode_shown(data["entries"])[: self._left] if self._left > 0 else []
        self._left -= len(shown)
        for at in range(0, len(shown), CHUNK):
            for entry in shown[at : at + CHUNK]:
                whose = (entry["tenant_id"], entry["service_name"])
                self._board.on_shown(*whose)
                await self._emit("log:new", entry, _of(*whose), droppable=True)
            await asyncio.sleep(0)  # other requests of this process have their turn

    async def _send_late_acks(self) -> None:
        """At most ACKS_PER_SECOND_MAX a second per service; of what waits only the newest is true."""
        now = monotonic_s()
        for key in list(self._late_acks):
            if now - self._acked_at.get(key, 0.0) >= 1 / ACKS_PER_SECOND_MAX:
                self._acked_at[key] = now
                await self._emit("ack:sent", self._late_acks.pop(key), _of(key[0], key[1]))
        if len(self._acked_at) > 20_000:
            self._acked_at.clear()

    async def _emit(
        self, event: str, data: Any, to: Callable[[View], bool] = lambda _: True, *, droppable: bool = False
    ) -> None:
        """To every client who sees it and whose backlog is short; the others are told how much they missed."""
        for sid, viewer in list(self._viewers.items()):
            if not to(viewer.view):
                continue
            backlog = self._backlog(sid)
            if backlog >= BACKLOG_MAX and (droppable or backlog >= 2 * BACKLOG_MAX):
                viewer.skipped += droppable
                continue
            missed = viewer.skipped
            if missed and backlog < BACKLOG_MAX // 2:
                viewer.skipped = 0
                await self.server.emit("log:skipped", {"count": missed}, to=sid)
            await self.server.emit(event, data, to=sid)

    def _backlog(self, sid: str) -> int:
        """Packets that wait for this client; the server's own queue has no bound."""
        eio_sid = self.server.manager.eio_sid_from_sid(sid, "/")
        socket = self.server.eio.sockets.get(eio_sid) if eio_sid else None
        return socket.queue.qsize() if socket is not None else 0


def _of(tenant_id: str, service: str) -> Callable[[View], bool]:
    """Who sees this service of this tenant."""
    return lambda view: view.sees(tenant_id, service)
