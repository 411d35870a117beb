"""Raw WebSocket clients (logstream.md §6): entries of their tenant that pass their filter, as they are committed.

What a client sees comes from the live bus, just before the answer to whoever wrote it. Clients with equal filters are
served together. Each has a bounded queue: a slow one loses its oldest frames, is told how many, and holds up nobody.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import structlog

from apps.backend.live.backlog import Backlog
from tracehub.protocol.errors import TraceHubError
from tracehub.protocol.filters import LogFilter, matches
from tracehub.protocol.logstream import shown
from tracehub.protocol.messages import LiveMessage, decode_shown
from tracehub.runtime.clock import Clock
from tracehub.storage.redis.presence import Presence

log = structlog.get_logger()

CLIENTS_MAX: Final = 1_000
TOLD_S: Final = 1.0


@dataclass(slots=True, eq=False)
class Client:
    """One socket: whose entries, which of them, and what waits for it."""

    tenant_id: str
    wanted: LogFilter
    backlog: Backlog[bytes] = field(default_factory=Backlog)

    def take(self) -> list[bytes]:
        """What waits, told what was left out first."""
        skipped, frames = self.backlog.take()
        return [b'{"type":"skipped","data":{"count":%d}}' % skipped, *frames] if skipped else frames


class Sockets:
    """The raw WebSocket clients of one backend, and how many all backends have."""

    def __init__(self, presence: Presence, clock: Clock, live_max: int) -> None:
        self._presence = presence
        self._clock = clock
        self._live_max = live_max
        self._clients: set[Client] = set()
        self._elsewhere: Counter[str] = Counter()
        self._second, self._left = 0, live_max

    def join(self, client: Client) -> bool:
        """False when there are too many."""
        if len(self._clients) >= CLIENTS_MAX:
            return False
        self._clients.add(client)
        return True

    def leave(self, client: Client) -> None:
        """It has gone."""
        self._clients.discard(client)

    def count(self, tenant_id: str | None = None) -> int:
        """Clients of a tenant (None: of all) on all backends; right within two seconds."""
        here = sum(tenant_id in (None, client.tenant_id) for client in self._clients)
        elsewhere = self._elsewhere.total() if tenant_id is None else self._elsewhere[tenant_id]
        return here + elsewhere

    async def run(self) -> None:
        """Tell the other backends, and hear from them, until cancelled."""
        while True:
            try:
                here = Counter(client.tenant_id for client in self._clients)
                self._elsewhere = await self._presence.tell(here)
            except TraceHubError as trouble:
                log.debug("sockets.not_told", reason=trouble.message)
            await asyncio.sleep(TOLD_S)

    def heard(self, live: LiveMessage) -> None:
        """A message of the live bus."""
        if live.event != "stored" or not self._clients:
            return
        groups: dict[tuple[str, LogFilter], list[Client]] = {}
        for client in self._clients:
            groups.setdefault((client.tenant_id, client.wanted), []).append(client)
        entries = self._admitted(decode_shown(live.data["entries"]))
        stored: Counter[str] = Counter()
        for tenant_id, _, count, _ in live.data["services"]:
            stored[tenant_id] += count
        offered = Counter(entry["tenant_id"] for entry in entries)
        frames: dict[str, bytes] = {}
        for (tenant_id, wanted), clients in groups.items():
            left_out = stored[tenant_id] - offered[tenant_id]
            passing = [e for e in entries if e["tenant_id"] == tenant_id and matches(wanted, e)]
            for entry in passing:
                frames.setdefault(entry["id"], _frame(entry))
            for client in clients:
                for entry in passing:
                    client.backlog.put(frames[entry["id"]], len(frames[entry["id"]]))
                if left_out > 0:
                    client.backlog.skip(left_out)

    def _admitted(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """At most so many a second; the workers took a fair sample already."""
        second = self._clock() // 1000
        if second != self._second:
            self._second, self._left = second, self._live_max
        taken = entries[: self._left]
        self._left -= len(taken)
        return taken


def _frame(entry: dict[str, Any]) -> bytes:
    return b'{"type":"log","data":' + orjson.dumps(shown(entry)) + b"}"
