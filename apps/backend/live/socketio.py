"""Socket.IO (ingest.md §7): what is stored, what is acknowledged, who crashed; to everyone who looks.

Every backend hears the same live bus and tells its own clients, so each client sees every event whichever
backend it is connected to. A client that reads slowly never slows ingest: its backlog is looked at before
each emit, cut, and it is told (`log:skipped`).
Limits: live_entries_per_second_max log:new events a second, BACKLOG_MAX packets per client, CLIENTS_MAX.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import socketio
import structlog

from apps.backend.live.board import Board
from apps.backend.live.snapshot import Snapshots, try_snapshot
from tracehub.protocol.messages import LiveMessage, decode_shown
from tracehub.runtime.clock import Clock, monotonic_s
from tracehub.storage.redis.keys import ZERO_TENANT

log = structlog.get_logger()

SNAPSHOT_S = 2.0
ACKS_PER_SECOND_MAX = 10
BACKLOG_MAX = 1_000
CLIENTS_MAX = 1_000
CHUNK = 50
FORWARDED = frozenset(("replay:completed", "worker:crashed", "worker:recovered", "sim:control"))


class _Json:
    """orjson under the interface that python-socketio wants."""

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        return orjson.dumps(value).decode()

    @staticmethod
    def loads(text: str | bytes, **_: Any) -> Any:
        return orjson.loads(text)


class Live:
    """The Socket.IO server of one backend."""

    def __init__(self, board: Board, snapshots: Snapshots, clock: Clock, live_max: int) -> None:
        self._board = board
        self._snapshots = snapshots
        self._clock = clock
        self._live_max = live_max
        self._second = 0
        self._left = live_max
        self._acked_at: dict[tuple[str, int], float] = {}
        self._late_acks: dict[tuple[str, int], dict[str, Any]] = {}
        self._skipped: dict[str, int] = {}  # connected clients, and what each missed
        self._greetings: set[asyncio.Task[None]] = set()
        self.server = socketio.AsyncServer(
            async_mode="asgi", json=_Json, logger=False,
            engineio_logger=False, max_http_buffer_size=64 * 1024, ping_interval=20, ping_timeout=20,
        )  # fmt: skip
        self.server.on("connect", self._connect)
        self.server.on("disconnect", self._disconnect)

    async def _connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        if len(self._skipped) >= CLIENTS_MAX:
            raise socketio.exceptions.ConnectionRefusedError("too_many_clients")
        self._skipped[sid] = 0
        self._snapshots.live["clients"] = len(self._skipped)
        # The handler must end first: only then does the client hear that it is connected.
        task = asyncio.create_task(self._greet(sid))
        self._greetings.add(task)
        task.add_done_callback(self._greetings.discard)

    async def _greet(self, sid: str) -> None:
        snapshot = await try_snapshot(self._snapshots, ZERO_TENANT)
        if snapshot is not None and sid in self._skipped:
            await self.server.emit("metrics:snapshot", snapshot, to=sid)

    async def _disconnect(self, sid: str, reason: Any = None) -> None:
        self._skipped.pop(sid, None)
        self._snapshots.live["clients"] = len(self._skipped)

    async def run(self) -> None:
        """Send snapshots and late acks until cancelled."""
        while True:
            for _ in range(int(SNAPSHOT_S * ACKS_PER_SECOND_MAX)):
                await asyncio.sleep(1 / ACKS_PER_SECOND_MAX)
                await self._send_late_acks()
            if self._skipped:
                snapshot = await try_snapshot(self._snapshots, ZERO_TENANT)
                if snapshot is not None:
                    await self._emit("metrics:snapshot", snapshot)

    async def heard(self, live: LiveMessage) -> None:
        """One message of the live bus."""
        if live.event == "stored":
            self._board.on_stored(live.data)
            if self._skipped:
                await self._stored(live.data)
        elif live.event in FORWARDED:
            await self._emit(live.event, live.shown())

    async def _stored(self, data: dict[str, Any]) -> None:
        for completed in data["replays"]:
            await self._emit("replay:completed", completed)
        for stream in data["streams"]:
            key = (stream["service"], stream["epoch"])
            self._late_acks[key] = {
                name: stream[name] for name in ("service", "epoch", "ackTill", "missing", "missingCount")
            }
        await self._send_late_acks()
        second = self._clock() // 1000
        if second != self._second:
            self._second, self._left = second, self._live_max
        shown = decode_shown(data["entries"])[: self._left] if self._left > 0 else []
        self._left -= len(shown)
        self._snapshots.live["sent"] += len(shown)
        self._snapshots.live["skipped"] += int(data["stored"]) - len(shown)
        for at in range(0, len(shown), CHUNK):
            for entry in shown[at : at + CHUNK]:
                await self._emit("log:new", entry, droppable=True)
            await asyncio.sleep(0)  # other requests of this process have their turn

    async def _send_late_acks(self) -> None:
        """At most ACKS_PER_SECOND_MAX a second per service; of what waits only the newest is true."""
        now = monotonic_s()
        for key in list(self._late_acks):
            if now - self._acked_at.get(key, 0.0) >= 1 / ACKS_PER_SECOND_MAX:
                self._acked_at[key] = now
                await self._emit("ack:sent", self._late_acks.pop(key))
        if len(self._acked_at) > 20_000:
            self._acked_at.clear()

    async def _emit(self, event: str, data: Any, *, droppable: bool = False) -> None:
        """To every client whose backlog is short; the others are told how much they missed."""
        for sid in list(self._skipped):
            backlog = self._backlog(sid)
            if backlog >= BACKLOG_MAX and (droppable or backlog >= 2 * BACKLOG_MAX):
                self._skipped[sid] += droppable
                continue
            missed = self._skipped.get(sid, 0)
            if missed and backlog < BACKLOG_MAX // 2:
                self._skipped[sid] = 0
                await self.server.emit("log:skipped", {"count": missed}, to=sid)
            await self.server.emit(event, data, to=sid)

    def _backlog(self, sid: str) -> int:
        """Packets that wait for this client; the server's own queue has no bound."""
        eio_sid = self.server.manager.eio_sid_from_sid(sid, "/")
        socket = self.server.eio.sockets.get(eio_sid) if eio_sid else None
        return socket.queue.qsize() if socket is not None else 0
