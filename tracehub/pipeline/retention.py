"""Retention: what is too old, or too much, is archived where that is wanted, then deleted (log-service.md §6).

Guarantee: a row goes only after its slice was archived and read back, and in one transaction with its ledger (expired),
its counts and the run's own; so a run that ended anywhere is gone on with by its row alone, and counts nothing twice.
1. By age: `ts` and `created_at` older than the policy's days; a tenant without a policy has the defaults.
2. Then by size: the oldest of a tenant until its bytes are within its limit; those without a policy share one.
3. A past partition of which nothing stays is emptied in one step and dropped; else rows go BATCH_ROWS at a time.
4. A slice that cannot be archived is kept; once ARCHIVE_FAILURES_MAX of a tenant are, so is all that is behind them.
Not here: locks, SQL, files, who starts a run (apps/worker/retaining.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final, Protocol

from tracehub.protocol.errors import TraceHubError
from tracehub.protocol.retention import Policy, bytes_of
from tracehub.protocol.times import DAY_MS, HOUR_MS, iso

BATCH_ROWS: Final = 5_000
BATCH_BYTES: Final = 64 * 1024 * 1024  # of rows that are read to be archived
PAUSE_S: Final = 0.05
LOCKED_PAUSE_S: Final = 1.0
LOCKED_TRIES_MAX: Final = 20
ARCHIVE_FAILURES_MAX: Final = 3
FIRST_ID: Final = bytes(16)
LAST_ID: Final = b"\xff" * 16


@dataclass(frozen=True, slots=True)
class Run:
    """One run, as far as it has come. Tenant None: all."""

    id: str
    tenant_id: str | None
    dry_run: bool
    started_ms: int


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition of logs and its bounds, in Unix ms; the end is not in it."""

    name: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Release:
    """What of a tenant goes: rows that are, and were written, before `cutoff_ms`; all up to (until_ms, until_id)."""

    tenant_id: str
    cutoff_ms: int
    until_ms: int = 0
    until_id: bytes = FIRST_ID

    @property
    def last_ms(self) -> int:
        """Nothing later is released."""
        return max(self.cutoff_ms - 1, self.until_ms)


@dataclass(frozen=True, slots=True)
class HourBytes:
    """An hour of some tenants: entries, and bytes on the disk; `density`: of those bytes per counted one."""

    hour_ms: int
    entries: int
    bytes: float
    density: float


@dataclass(frozen=True, slots=True)
class Row:
    """A released row; `line` is its LogEntry where it is to be archived."""

    stream_id: int
    seq: int
    ts_ms: int
    id: bytes
    line: bytes = b""


class Store(Protocol):
    """The database as one run sees it, over the connection that holds the lock of all runs. Raises Transient."""

    async def policies(self) -> Mapping[str, Policy]:
        """By tenant."""

    async def tenants(self, partition: Partition | None = None) -> list[str]:
        """Who has entries."""

    async def partitions(self) -> list[Partition]:
        """By time."""

    async def shares(self) -> Mapping[str, float]:
        """The bytes of each tenant on the disk."""

    async def hours(self, tenants: Sequence[str]) -> list[HourBytes]:
        """What tenants have by hour, ascending."""

    async def released_hours(self, releases: Sequence[Release]) -> Mapping[int, int]:
        """How many rows are released, by hour (Unix ms)."""

    async def tip(
        self, releases: Sequence[Release], hour_ms: int, counted: float
    ) -> tuple[int, bytes] | None:
        """The last row of an hour that must go so that so many counted bytes of it go, beside what is released."""

    async def measure(self, partition: Partition | None = None) -> None:
        """Note what entries take on the disk before rows of a partition go; None: anew where that was noted."""

    async def all_released(self, partition: Partition, releases: Sequence[Release]) -> bool:
        """Whether no row of it stays."""

    async def count(self, partition: Partition, releases: Sequence[Release]) -> Mapping[str, int]:
        """How many rows are released, by tenant."""

    def slices(self, partition: Partition, release: Release, *, whole: bool) -> AsyncIterator[list[Row]]:
        """Released rows in order, at most BATCH_ROWS at a time; `whole`: with their lines."""

    async def remove(self, run: Run, partition: Partition, rows: Sequence[Row], *, archived: bool) -> bool:
        """Delete just these in one transaction with all that is counted; False, and nothing, when one is not there."""

    async def empty(self, run: Run, partition: Partition, *, archived: int) -> bool | None:
        """Delete all rows of a partition in one step; None when it is locked, False when rows came meanwhile."""

    async def emptied(self, run: Run) -> list[Partition]:
        """Partitions that the run has emptied."""

    async def drop(self, run: Run, partition: Partition) -> bool | None:
        """Drop a partition if it is empty (True, also when it is gone already); None when it is locked."""

    async def forget_ids(self, partition: Partition) -> None:
        """Forget the ids that clients gave to rows that went with a partition."""

    async def finish(self, run: Run, done: Done) -> None:
        """The run is over."""


class Archive(Protocol):
    """Where slices are kept."""

    async def write(self, path: str, name: str, lines: Sequence[bytes]) -> None:
        """Returns when they were read back. Raises TraceHubError."""


@dataclass(slots=True)
class Done:
    """What came of a run; the numbers of a real one are counted where they are deleted."""

    tenants: int = 0
    archived: int = 0
    deleted: int = 0
    dropped: int = 0
    kept_slices: int = 0
    locked: list[str] = field(default_factory=list)

    @property
    def error(self) -> str | None:
        """What the run says of what it could not do."""
        if not self.kept_slices:
            return None
        return f"{self.kept_slices} slices could not be archived; their entries were kept"


@dataclass(frozen=True, slots=True)
class Tools:
    """What a run works with beside its store."""

    archive: Archive
    pause: Callable[[float], Awaitable[None]]
    deleted: Callable[[str], Awaitable[None]]  # answers about this tenant are no longer true
    days: int
    size_gb: float


async def retain(store: Store, tools: Tools, run: Run) -> Done:
    """Do a run, or what is left of it. Raises Transient; then it is begun again by its row."""
    return await _Retention(store, tools, run).run()


class _Retention:
    def __init__(self, store: Store, tools: Tools, run: Run) -> None:
        self._store = store
        self._tools = tools
        self._run = run
        self._done = Done()
        self._policies: Mapping[str, Policy] = {}
        self._failures: dict[str, int] = {}

    async def run(self) -> Done:
        self._policies = await self._store.policies()
        everybody = await self._store.tenants()
        mine = [t for t in everybody if self._run.tenant_id in (None, t)]
        self._done.tenants = len(mine)
        old = {tenant_id: self._by_age(tenant_id) for tenant_id in mine}
        await self._store.measure()
        if self._run.dry_run:
            await self._count({**old, **await self._by_size(everybody, mine)})
        else:
            await self._release(old)
            if large := await self._by_size(everybody, mine):
                await self._release(large)
            await self._drop_emptied()
            for tenant_id in mine:
                await self._tools.deleted(tenant_id)
        await self._store.finish(self._run, self._done)
        return self._done

    # ------------------------------------------------------------------ what goes

    def _by_age(self, tenant_id: str) -> Release:
        policy = self._policies.get(tenant_id)
        days = policy.retention_days if policy else self._tools.days
        return Release(tenant_id, self._run.started_ms - days * DAY_MS)

    async def _by_size(self, everybody: Sequence[str], mine: Sequence[str]) -> dict[str, Release]:
        """Releases of those who have too much, by tenant."""
        shares = await self._store.shares()
        pools = [([t], bytes_of(self._policies[t].max_size_gb)) for t in mine if t in self._policies]
        sharing = [t for t in everybody if t not in self._policies]
        if any(t in mine for t in sharing):
            pools.append((sharing, bytes_of(self._tools.size_gb)))
        releases: dict[str, Release] = {}
        for tenants, limit in pools:
            if sum(shares.get(t, 0.0) for t in tenants) <= limit or any(t in self._failures for t in tenants):
                continue
            until = await self._until(tenants, limit)
            if until is not None:
                releases |= {
                    t: replace(self._by_age(t), until_ms=until[0], until_id=until[1])
                    for t in tenants
                    if t in mine
                }
        return releases

    async def _until(self, tenants: Sequence[str], limit: float) -> tuple[int, bytes] | None:
        """The position up to which the oldest go, so that the rest is within the limit; None: it is."""
        hours = await self._store.hours(tenants)
        old = [self._by_age(t) for t in tenants]
        if self._run.dry_run:  # what is old is still there
            gone = await self._store.released_hours(old)
            hours = [_without(hour, gone.get(hour.hour_ms, 0)) for hour in hours]
        excess = sum(hour.bytes for hour in hours) - limit
        until: tuple[int, bytes] | None = None
        for hour in hours:
            if excess <= 0:
                break
            whole = (hour.hour_ms + HOUR_MS - 1, LAST_ID)
            if hour.bytes <= excess:
                until = whole
            else:
                until = await self._store.tip(old, hour.hour_ms, excess / hour.density) or until
            excess -= hour.bytes
        return until

    # ------------------------------------------------------------------ how it goes

    async def _release(self, releases: Mapping[str, Release]) -> None:
        for partition in await self._store.partitions():
            there = await self._store.tenants(partition)
            wanted = [
                releases[t] for t in there if t in releases and releases[t].last_ms >= partition.start_ms
            ]
            if await self._goes_whole(partition, there, wanted) and await self._empty(partition, wanted):
                continue
            if wanted:
                await self._store.measure(partition)
            for release in wanted:
                await self._remove(partition, release)

    async def _goes_whole(
        self, partition: Partition, there: Sequence[str], wanted: Sequence[Release]
    ) -> bool:
        """Whether nothing of a past partition stays. An empty one goes when the defaults would let nothing stay."""
        if partition.end_ms > self._run.started_ms or len(wanted) < len(there):
            return False
        if not there and (
            self._run.tenant_id is not None
            or partition.end_ms > self._run.started_ms - self._tools.days * DAY_MS
        ):
            return False
        return await self._store.all_released(partition, wanted)

    async def _empty(self, partition: Partition, releases: Sequence[Release]) -> bool:
        """Archive a whole partition, then empty it in one step; False: it must go row by row."""
        archived = 0
        for release in releases:
            if self._archive_path(release) is None:
                continue
            async for rows in self._store.slices(partition, release, whole=True):
                for day in _days(rows):
                    if not await self._archived(release, day):
                        return False
                    archived += len(day)
        for _ in range(LOCKED_TRIES_MAX):
            emptied = await self._store.empty(self._run, partition, archived=archived)
            if emptied is not None:
                for release in releases if emptied else ():
                    await self._tools.deleted(release.tenant_id)
                return emptied
            await self._tools.pause(LOCKED_PAUSE_S)
        return False

    async def _remove(self, partition: Partition, release: Release) -> None:
        is_archived = self._archive_path(release) is not None
        async for rows in self._store.slices(partition, release, whole=is_archived):
            for part in _days(rows) if is_archived else [rows]:
                if self._failures.get(release.tenant_id, 0) >= ARCHIVE_FAILURES_MAX:
                    return
                if is_archived and not await self._archived(release, part):
                    self._done.kept_slices += 1
                    self._failures[release.tenant_id] = self._failures.get(release.tenant_id, 0) + 1
                    continue
                if await self._store.remove(self._run, partition, part, archived=is_archived):
                    await self._tools.deleted(release.tenant_id)
                await self._tools.pause(PAUSE_S)

    def _archive_path(self, release: Release) -> str | None:
        policy = self._policies.get(release.tenant_id)
        return policy.archive_path if policy and policy.archive_enabled else None

    async def _archived(self, release: Release, rows: Sequence[Row]) -> bool:
        path = self._archive_path(release)
        assert path is not None
        try:
            name = archive_name(release.tenant_id, rows, self._run.id)
            await self._tools.archive.write(path, name, [row.line for row in rows])
        except TraceHubError:
            return False
        return True

    async def _drop_emptied(self) -> None:
        for partition in await self._store.emptied(self._run):
            for _ in range(LOCKED_TRIES_MAX):
                if await self._store.drop(self._run, partition) is not None:
                    break
                await self._tools.pause(LOCKED_PAUSE_S)
            else:
                self._done.locked.append(partition.name)  # empty, it waits for the next run
            await self._store.forget_ids(partition)

    # ------------------------------------------------------------------ what would go

    async def _count(self, releases: Mapping[str, Release]) -> None:
        for partition in await self._store.partitions():
            there = await self._store.tenants(partition)
            wanted = [
                releases[t] for t in there if t in releases and releases[t].last_ms >= partition.start_ms
            ]
            self._done.dropped += await self._goes_whole(partition, there, wanted)
            counts = await self._store.count(partition, wanted) if wanted else {}
            self._done.deleted += sum(counts.values())
            self._done.archived += sum(
                counts.get(release.tenant_id, 0)
                for release in wanted
                if self._archive_path(release) is not None
            )


def archive_name(tenant_id: str, rows: Sequence[Row], run_id: str) -> str:
    """`<tenant>/<YYYY-MM-DD>/<from>_<to>_<run>.jsonl.gz`: the day and the bounds of a slice. A bound is a time and an
    id, so slices of one run never share a name, and one that is written again is the same."""
    first, last = rows[0], rows[-1]
    return f"{tenant_id}/{iso(first.ts_ms)[:10]}/{_bound(first)}_{_bound(last)}_{run_id}.jsonl.gz"


def _bound(row: Row) -> str:
    return f"{iso(row.ts_ms).replace(':', '').replace('.', '')}-{row.id.hex()}"


def _days(rows: Sequence[Row]) -> list[list[Row]]:
    """A slice is of one day."""
    return [list(day) for _, day in groupby(rows, lambda row: row.ts_ms // DAY_MS)]


def _without(hour: HourBytes, gone: int) -> HourBytes:
    left = max(hour.entries - gone, 0)
    return replace(hour, entries=left, bytes=hour.bytes * left / hour.entries if hour.entries else 0.0)
