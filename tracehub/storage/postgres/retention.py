"""Retention in Postgres (pipeline.retention.Store): one connection holds the lock of all runs and does all of one.

Lock order as everywhere: ledger rows ascending, then rows or a partition, then ids that clients gave. Emptying a
partition reads it first and without any lock, then locks for as long as writing down the result takes; that no row
came in between is known from the counts, which every transaction that stores keeps. Nobody waits behind a lock that we
wait for ourselves longer than LOCK_MS, and for all of `logs` no longer than LOGS_LOCK_MS.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import asyncpg
import orjson

from tracehub.pipeline.retention import (
    BATCH_BYTES,
    BATCH_ROWS,
    FIRST_ID,
    Done,
    HourBytes,
    Partition,
    Release,
    Row,
    Run,
)
from tracehub.protocol.logentry import stored_entry
from tracehub.protocol.retention import Policy
from tracehub.protocol.times import HOUR_MS, moment_of, unix_ms
from tracehub.storage.postgres.failures import translated
from tracehub.storage.postgres.partitions import bounds_of
from tracehub.storage.postgres.policies import policy_of
from tracehub.storage.postgres.queries import SQL
from tracehub.storage.postgres.watch import LockWatch

LOCK_MS: Final = 500
LOGS_LOCK_MS: Final = 200
PREFETCH_ROWS: Final = 200
Connection: TypeAlias = Any  # asyncpg's connection or its pool proxy; the stubs have no common type


class RetentionLock:
    """Who may run retention. `held` gives the store of a run to the one who has the lock, None to the others."""

    def __init__(self, pool: asyncpg.Pool, watch: LockWatch | None = None) -> None:
        self._pool = pool
        self._watch = watch

    async def is_wanted(self) -> bool:
        """Whether a run waits, or was left. Raises Transient."""
        with translated():
            return bool(await self._pool.fetchval(SQL.has_open_run))

    @asynccontextmanager
    async def held(self) -> AsyncIterator[PostgresRetention | None]:
        """One at a time. Lost with the connection, so whoever lost it can change nothing more."""
        with translated():
            async with self._pool.acquire() as connection:
                if not await connection.fetchval(SQL.retention_lock):
                    yield None
                    return
                try:
                    yield PostgresRetention(connection, self._watch)
                finally:
                    if not connection.is_closed():
                        await connection.execute(SQL.retention_unlock)


class PostgresRetention:
    """See pipeline.retention.Store."""

    def __init__(self, connection: Connection, watch: LockWatch | None = None) -> None:
        self._connection = connection
        self._watch = watch

    async def take(self) -> Run | None:
        """The run that waits longest; it has begun."""
        with translated():
            row = await self._connection.fetchrow(SQL.take_run)
        if row is None:
            return None
        tenant_id = None if row["tenant_id"] is None else str(row["tenant_id"])
        return Run(str(row["id"]), tenant_id, row["dry_run"], unix_ms(row["started_at"]))

    async def _fetch(self, query: str, *args: Any) -> list[Any]:
        with translated():
            return list(await self._connection.fetch(query, *args))

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """A transaction; a stopped worker does not hold it up."""
        with translated():
            async with self._connection.transaction():
                if self._watch is None:
                    yield
                    return
                async with self._watch.watching(self._connection.get_server_pid()):
                    yield

    # ------------------------------------------------------------------ what there is

    async def policies(self) -> Mapping[str, Policy]:
        """See Store."""
        return {str(row["tenant_id"]): policy_of(row) for row in await self._fetch(SQL.policies, None)}

    async def tenants(self, partition: Partition | None = None) -> list[str]:
        """See Store."""
        bounds = _moments(partition) if partition else (None, None)
        return sorted(str(row["tenant_id"]) for row in await self._fetch(SQL.counted_tenants, *bounds))

    async def partitions(self) -> list[Partition]:
        """See Store."""
        names = [row["name"] for row in await self._fetch(SQL.partitions)]
        found = [Partition(name, *bounds) for name in names if (bounds := bounds_of(name)) is not None]
        return sorted(found, key=lambda p: p.start_ms)

    async def shares(self) -> Mapping[str, float]:
        """See Store."""
        return {str(row["tenant_id"]): row["bytes"] for row in await self._fetch(SQL.shares)}

    async def hours(self, tenants: Sequence[str]) -> list[HourBytes]:
        """See Store."""
        rows = await self._fetch(SQL.hours_of, list(tenants))
        return [HourBytes(unix_ms(row["hour"]), row["entries"], row["bytes"], row["density"]) for row in rows]

    async def released_hours(self, releases: Sequence[Release]) -> Mapping[int, int]:
        """See Store."""
        rows = await self._fetch(_of_releases(SQL.RETENTION_HOURS), *_columns(releases))
        return {unix_ms(row["hour"]): row["entries"] for row in rows}

    async def tip(
        self, releases: Sequence[Release], hour_ms: int, counted: float
    ) -> tuple[int, bytes] | None:
        """See Store."""
        hour = (moment_of(hour_ms), moment_of(hour_ms + HOUR_MS))
        query = _of_releases(SQL.RETENTION_TIP)
        rows = await self._fetch(query, *_columns(releases), *hour, counted)
        return (unix_ms(rows[0]["ts"]), rows[0]["id"].bytes) if rows else None

    async def all_released(self, partition: Partition, releases: Sequence[Release]) -> bool:
        """See Store."""
        query = _of_releases(SQL.RETENTION_ALL_RELEASED, partition.name)
        return bool((await self._fetch(query, *_columns(releases)))[0][0])

    async def count(self, partition: Partition, releases: Sequence[Release]) -> Mapping[str, int]:
        """See Store."""
        query = _of_releases(SQL.RETENTION_COUNT, partition.name)
        rows = await self._fetch(query, *_columns(releases))
        return {str(row["tenant_id"]): row["entries"] for row in rows}

    async def measure(self, partition: Partition | None = None) -> None:
        """See Store."""
        if partition is not None:
            await self._fetch(SQL.note_density, partition.name, *_moments(partition))
            return
        noted = {row["partition"] for row in await self._fetch(SQL.noted_partitions)}
        for known in await self.partitions():
            if known.name in noted:
                await self.measure(known)

    # ------------------------------------------------------------------ row by row

    async def slices(
        self, partition: Partition, release: Release, *, whole: bool
    ) -> AsyncIterator[list[Row]]:
        """See Store."""
        query = _of_releases(SQL.RETENTION_ROWS if whole else SQL.RETENTION_KEYS, partition.name)
        after = (partition.start_ms, FIRST_ID)
        while rows := await self._slice(query, release, after, whole=whole):
            after = (rows[-1].ts_ms, rows[-1].id)
            yield rows

    async def _slice(
        self, query: str, release: Release, after: tuple[int, bytes], *, whole: bool
    ) -> list[Row]:
        args = [*_columns([release]), release.tenant_id, moment_of(after[0]), uuid.UUID(bytes=after[1])]
        rows: list[Row] = []
        size = 0
        with translated():
            async with self._connection.transaction():
                cursor = self._connection.cursor(query, *args, BATCH_ROWS, prefetch=PREFETCH_ROWS)
                async for row in cursor:
                    line = orjson.dumps(stored_entry(row)) if whole else b""
                    rows.append(Row(row["stream_id"], row["seq"], unix_ms(row["ts"]), row["id"].bytes, line))
                    size += len(line)
                    if size > BATCH_BYTES:
                        break
        return rows

    async def remove(self, run: Run, partition: Partition, rows: Sequence[Row], *, archived: bool) -> bool:
        """See Store."""
        streams = [row.stream_id for row in rows]
        numbers = [row.seq for row in rows]
        try:
            async with self._changing():
                await self._connection.fetch(SQL.lock_ledger, sorted(set(streams)))
                query = SQL.RETENTION_REMOVE.format(name=partition.name)
                gone = await self._connection.fetchval(query, streams, numbers)
                if gone != len(rows):  # what was chosen, or archived, is not what is here
                    raise _TakenBack
                await self._connection.execute(SQL.count_removed, run.id, gone if archived else 0, gone)
        except _TakenBack:
            return False
        return True

    # ------------------------------------------------------------------ whole partitions

    async def empty(self, run: Run, partition: Partition, *, archived: int) -> bool | None:
        """See Store."""
        name = partition.name
        with translated():
            await self._connection.execute(SQL.RETENTION_GATHER.format(name=name))
        gathered = (await self._fetch(SQL.gathered))[0]
        if gathered["by_stream"] != gathered["by_hour"] or archived > gathered["by_hour"]:
            return False
        with translated():
            try:
                async with self._connection.transaction():
                    await self._connection.execute(SQL.RETENTION_LOCK.format(timeout_ms=LOCK_MS))
                    await self._connection.execute(SQL.lock_gathered)
                    await self._connection.execute(SQL.RETENTION_LOCK_PARTITION.format(name=name))
                    there = await self._connection.fetchval(SQL.counted_rows, *_moments(partition))
                    if there != gathered["by_hour"]:
                        return False
                    await self._connection.execute(SQL.expire_gathered)
                    await self._connection.execute(SQL.RETENTION_TRUNCATE.format(name=name))
                    await self._connection.execute(SQL.note_emptied, run.id, archived, there, name)
            except asyncpg.LockNotAvailableError:
                return None
        return True

    async def emptied(self, run: Run) -> list[Partition]:
        """See Store."""
        names = (await self._fetch(SQL.emptied_by, run.id))[0]["emptied"]
        return [Partition(name, *bounds) for name in names if (bounds := bounds_of(name)) is not None]

    async def drop(self, run: Run, partition: Partition) -> bool | None:
        """See Store."""
        if partition.name not in {p.name for p in await self.partitions()}:
            return True
        name = partition.name
        with translated():
            try:
                async with self._connection.transaction():
                    await self._connection.execute(SQL.RETENTION_LOCK.format(timeout_ms=LOGS_LOCK_MS))
                    await self._connection.execute(SQL.retention_lock_logs)
                    if not await self._connection.fetchval(SQL.RETENTION_IS_EMPTY.format(name=name)):
                        return False
                    await self._connection.execute(SQL.RETENTION_DROP.format(name=name))
                    await self._connection.execute(SQL.note_dropped, run.id, name)
            except asyncpg.LockNotAvailableError:
                return None
        return True

    async def forget_ids(self, partition: Partition) -> None:
        """See Store."""
        after = (uuid.UUID(int=0), uuid.UUID(int=0))
        while True:
            async with self._changing():
                args = (*after, *_moments(partition), BATCH_ROWS)
                rows = await self._connection.fetch(SQL.ids_to_check, *args)
                if not rows:
                    return
                columns = [[row[name] for row in rows] for name in ("tenant_id", "id", "ts")]
                await self._connection.execute(SQL.forget_ids, *columns)
            after = (rows[-1]["tenant_id"], rows[-1]["id"])

    # ------------------------------------------------------------------ the end

    async def finish(self, run: Run, done: Done) -> None:
        """See Store."""
        async with self._changing():
            if run.dry_run:
                counts = (done.archived, done.deleted, done.dropped)
                await self._connection.execute(SQL.finish_dry_run, run.id, *counts)
            else:
                await self._connection.execute(SQL.fold_counts)
                await self._connection.execute(SQL.drop_empty_counts)
                await self._connection.execute(SQL.drop_empty_days)
            await self._connection.execute(SQL.finish_run, run.id, done.tenants, done.error)


class _TakenBack(Exception):
    """The transaction is taken back"""


def _of_releases(query: str, name: str = "") -> str:
    return query.format(name=name, releases=SQL.RETENTION_RELEASES, released=SQL.RETENTION_RELEASED)


def _columns(releases: Sequence[Release]) -> list[list[Any]]:
    return [
        [r.tenant_id for r in releases],
        [r.cutoff_ms for r in releases],
        [r.until_ms for r in releases],
        [str(uuid.UUID(bytes=r.until_id)) for r in releases],
    ]


def _moments(partition: Partition) -> tuple[Any, Any]:
    return moment_of(partition.start_ms), moment_of(partition.end_ms)
