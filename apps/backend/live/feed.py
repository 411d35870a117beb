"""Everything that is committed, in order, for those who follow it (log-service.md §5).

One task reads the commits while somebody follows, fetches their rows once per tenant, and hands them to each follower
whose filter they pass. A follower that is slow loses its oldest frames and is told how many; it never holds up the
others, and nobody who follows holds up a commit.
Guarantee: a follower that resumes at a position gets all that was committed after it, oldest first, at least once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import structlog

from apps.backend.live.backlog import Backlog
from tracehub.protocol.errors import TraceHubError
from tracehub.protocol.filters import LogFilter, matches
from tracehub.protocol.logentry import stored_entry
from tracehub.protocol.messages import Committed
from tracehub.storage.postgres.search import LogSearch
from tracehub.storage.redis.commits import Commits

log = structlog.get_logger()

FOLLOWERS_MAX: Final = 1_000
KEPT_MS: Final = 10 * 60 * 1000
KEPT_ENTRIES: Final = 100_000
BEHIND_ENTRIES_MAX: Final = 20_000  # a feed further behind leaves out what it cannot catch up with
WAIT_MS: Final = 1_000
PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Frame:
    """One entry as JSON, and where to go on after it."""

    position: str
    data: bytes


@dataclass(slots=True, eq=False)
class Follower:
    """Somebody who follows one tenant's entries (None: all tenants') through a filter."""

    tenant_id: str | None
    wanted: LogFilter
    since: str
    backlog: Backlog[Frame] = field(default_factory=Backlog)


class Feed:
    """One per backend."""

    def __init__(self, commits: Commits, looking: Commits, search: LogSearch) -> None:
        self._commits = commits
        self._looking = looking  # a connection that never blocks
        self._search = search
        self._followers: set[Follower] = set()
        self._somebody = asyncio.Event()
        self._position = ""

    async def follow(self, tenant_id: str | None, wanted: LogFilter) -> Follower | None:
        """Begin to follow what is committed from now on; None when too many do. End it with `leave`."""
        if len(self._followers) >= FOLLOWERS_MAX:
            return None
        newest = await self._looking.newest()
        if not self._followers:
            self._position = newest
        follower = Follower(tenant_id, wanted, max(newest, self._position, key=_order))
        self._followers.add(follower)
        self._somebody.set()
        return follower

    def leave(self, follower: Follower) -> None:
        """Nothing more for this one."""
        self._followers.discard(follower)
        if not self._followers:
            self._somebody.clear()

    async def knows(self, position: str) -> bool:
        """Whether a follower can resume there."""
        if not await self._looking.knows(position, KEPT_MS):
            return False
        entries = 0
        while commits := await self._looking.after(position):
            entries += sum(committed.entries for _, committed in commits)
            if entries > KEPT_ENTRIES:
                return False
            position = commits[-1][0]
        return True

    async def between(self, position: str, follower: Follower) -> AsyncIterator[Frame]:
        """What was committed after a position, until the follower's own beginning."""
        while commits := await self._looking.after(position):
            for name, committed in commits:
                if _order(name) > _order(follower.since):
                    return
                for tenant_id in committed.tenants if follower.tenant_id is None else [follower.tenant_id]:
                    for shown in await self._entries(committed, tenant_id):
                        if matches(follower.wanted, shown):
                            yield Frame(position, orjson.dumps(shown))
                position = name

    async def run(self) -> None:
        """Hand out until cancelled."""
        while True:
            await self._somebody.wait()
            try:
                commits = await self._commits.after(self._position, WAIT_MS)
                behind = sum(committed.entries for _, committed in commits)
                for name, committed in commits:
                    if behind > BEHIND_ENTRIES_MAX:
                        self._leave_out(committed)
                    else:
                        await self._hand_out(name, committed)
                    behind -= committed.entries
                    self._position = name
            except TraceHubError as trouble:
                log.warning("feed.waits", reason=trouble.message)
                await asyncio.sleep(PAUSE_S)

    async def _hand_out(self, name: str, committed: Committed) -> None:
        followed = {f.tenant_id for f in self._followers}
        for tenant_id in [t for t in committed.tenants if None in followed or t in followed]:
            entries = await self._entries(committed, tenant_id)
            encoded = [orjson.dumps(shown) for shown in entries]
            for follower in list(self._followers):
                if follower.tenant_id in (None, tenant_id) and _order(name) > _order(follower.since):
                    passing = [i for i, shown in enumerate(entries) if matches(follower.wanted, shown)]
                    for i in passing:
                        # Whoever resumes within a commit gets all of it again.
                        frame = Frame(name if i == passing[-1] else self._position, encoded[i])
                        follower.backlog.put(frame, len(frame.data))

    def _leave_out(self, committed: Committed) -> None:
        for follower in self._followers:
            if follower.tenant_id is None or follower.tenant_id in committed.tenants:
                follower.backlog.skip(committed.entries)

    async def _entries(self, committed: Committed, tenant_id: str) -> list[dict[str, Any]]:
        if tenant_id not in committed.tenants:
            return []
        found: list[dict[str, Any]] = []
        for stream_id, ranges in committed.stretches:
            found += map(stored_entry, await self._search.stretch(tenant_id, stream_id, ranges))
        return found


def _order(position: str) -> tuple[int, int]:
    ms, _, n = position.partition("-")
    return int(ms or 0), int(n or 0)
