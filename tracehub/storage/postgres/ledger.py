"""The ledger in Postgres (ports.Ledger). Every rule of order is here or in schema.sql.

Invariants: (1) rows and ledger change in one transaction; (2) ledger rows are made, then locked, in ascending
order, before anything else is touched; (3) the received multirange never leaves Postgres; (4) whatever may
wait for a lock of another worker is watched, so that nobody who is only stopped holds it up.
Limits: epochs per service, services per tenant. Not here: what is a duplicate, who signs off
(tracehub/pipeline).
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import asyncpg

from tracehub.protocol.ack import Gaps, StreamState
from tracehub.protocol.messages import Request, StreamKey
from tracehub.protocol.ranges import EMPTY, Ranges, highest
from tracehub.storage.ports import (
    ROW_BYTES,
    ClaimedId,
    CompletedReplay,
    LedgerTransaction,
    OnceSettled,
    ReplayTask,
    Rows,
    StoredRow,
    numbers_by_stream,
)
from tracehub.storage.postgres.failures import PartitionGone, translated
from tracehub.storage.postgres.multirange import from_text, to_text
from tracehub.storage.postgres.partitions import Partitions, ahead
from tracehub.storage.postgres.queries import SQL
from tracehub.storage.postgres.rows import EncodedRows, columns
from tracehub.storage.postgres.transaction import PostgresTransaction, complete, gaps_of, lose, stored_rows
from tracehub.storage.postgres.watch import LockWatch

CACHED_STREAMS_MAX = 50_000


class PostgresLedger:
    """Ledger over one pool. `watch` frees locks that a stopped worker holds; None where nobody is supervised."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        partition: str = "month",
        epochs_max: int = 100,
        services_max: int = 10_000,
        gap_grace_ms: int = 500,
        watch: LockWatch | None = None,
    ) -> None:
        self._pool = pool
        self._partitions = Partitions(partition)
        self._epochs_max = epochs_max
        self._services_max = services_max
        self._gap_grace_ms = gap_grace_ms
        self._watch = watch
        self._streams: dict[StreamKey, int] = {}

    async def resolve(self, streams: Sequence[StreamKey]) -> Mapping[StreamKey, int]:
        """See ports.Ledger."""
        known = {s: self._streams[s] for s in streams if s in self._streams}
        absent = sorted({s for s in streams if s not in known})
        if absent:
            async with self._changing() as connection:
                found = await self._select(connection, absent)
                allowed = await self._allowed(connection, [s for s in absent if s not in found])
                if allowed:
                    await connection.execute(SQL.insert_streams, *_columns(allowed))
                    found |= await self._select(connection, allowed)
            if len(self._streams) > CACHED_STREAMS_MAX:
                self._streams.clear()
            self._streams |= found
            known |= found
        return known

    async def _select(
        self, connection: asyncpg.pool.PoolConnectionProxy, streams: Sequence[StreamKey]
    ) -> dict[StreamKey, int]:
        rows = await connection.fetch(SQL.select_streams, *_columns(streams))
        return {
            StreamKey(str(row["tenant_id"]), row["numbering"], row["epoch"]): row["stream_id"] for row in rows
        }

    async def _allowed(
        self, connection: asyncpg.pool.PoolConnectionProxy, streams: Sequence[StreamKey]
    ) -> list[StreamKey]:
        if not streams:
            return []
        rows = await connection.fetch(SQL.count_epochs, *_columns(streams)[:2])
        epochs = {(str(row["tenant_id"]), row["numbering"]): row["epochs"] for row in rows}
        services = {str(row["tenant_id"]): row["services"] for row in rows}
        allowed: list[StreamKey] = []
        for stream in streams:
            tenant_id, service = stream.tenant_id, (stream.tenant_id, stream.numbering)
            is_known = epochs[service] > 0
            if not stream.by_server:
                if epochs[service] >= self._epochs_max:
                    continue
                if not is_known and services[tenant_id] >= self._services_max:
                    continue
            epochs[service] += 1
            services[tenant_id] += not is_known
            allowed.append(stream)
        return allowed

    async def ensure_partitions(self, times_ms: Sequence[int], most: int) -> bool:
        """See ports.Ledger."""
        if not self._partitions.absent(times_ms):
            return True
        async with self._changing() as connection:
            return await self._partitions.ensure(connection, times_ms, most)

    async def partitions_ahead(self, now_ms: int) -> None:
        """Make this partition and the next ones, before anybody needs them. Raises Transient."""
        times = ahead(now_ms, self._partitions.width)
        await self.ensure_partitions(times, len(times))

    def encode(self, requests: Sequence[Request], streams: Mapping[StreamKey, int], now_ms: int) -> Rows:
        """See ports.Ledger."""
        return EncodedRows(requests, streams, now_ms)

    async def store_whole(
        self,
        requests: Sequence[Request],
        streams: Mapping[StreamKey, int],
        in_flight: Mapping[int, Ranges],
        now_ms: int,
    ) -> Mapping[StreamKey, StreamState]:
        """See ports.Ledger."""
        fresh = numbers_by_stream(requests, streams)
        flying = [in_flight.get(stream_id, EMPTY) for stream_id in fresh]
        names = {streams[q.stream]: q.stream for q in requests}
        async with self._remembering(), self._watched() as connection:
            rows = await connection.fetch(
                SQL.store_whole,
                list(fresh), [to_text(numbers) for numbers in fresh.values()],
                [to_text(numbers) for numbers in flying], [highest(numbers) for numbers in flying],
                *columns(requests, streams, now_ms), ROW_BYTES,
            )  # fmt: skip
        return {
            names[row["stream_id"]]: StreamState(row["stream_id"], row["ack_till"], row["highest"], Gaps())
            for row in rows
        }

    def transaction(self) -> AbstractAsyncContextManager[LedgerTransaction]:
        """See ports.Ledger."""
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[LedgerTransaction]:
        async with self._remembering(), self._changing() as connection:
            yield PostgresTransaction(connection, self._gap_grace_ms)

    @asynccontextmanager
    async def _remembering(self) -> AsyncIterator[None]:
        """Until something shows that what is remembered of partitions is no longer true."""
        try:
            yield
        except PartitionGone:
            self._partitions.forget()
            raise

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
        """A transaction that may come to wait for another worker's locks."""
        async with self._watched() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
        """A connection that is watched, so that no worker that is only stopped holds it up."""
        with translated():
            async with self._pool.acquire() as connection:
                pid = connection.get_server_pid()
                async with self._watch.watching(pid) if self._watch else _nothing():
                    yield connection

    def forget(self) -> None:
        """Drop what is remembered of streams and partitions: the database may be another one now."""
        self._streams.clear()
        self._partitions.forget()

    async def state(self, stream: StreamKey, in_flight: Ranges) -> StreamState | None:
        """See ports.Ledger."""
        with translated():
            async with self._pool.acquire() as connection:
                row = await connection.fetchrow(
                    SQL.stream_state, stream.tenant_id, stream.numbering, stream.epoch,
                    highest(in_flight), to_text(in_flight),
                )  # fmt: skip
                if row is None:
                    return None
                gaps = await gaps_of(connection, row["stream_id"], in_flight, whole=row["whole"])
        return StreamState(
            row["stream_id"], row["ack_till"], row["highest"], gaps, lost_count=row["lost_count"]
        )

    async def epochs(self, tenant_id: str, numbering: str) -> list[int]:
        """See ports.Ledger."""
        with translated():
            return [row["epoch"] for row in await self._pool.fetch(SQL.epochs, tenant_id, numbering)]

    async def request_replay(self, stream_id: int, first: int, last: int) -> int:
        """Somebody asks for a range; the id of the request. Raises Transient."""
        async with self._changing() as connection:
            return int(await connection.fetchval(SQL.insert_manual_replay, stream_id, first, last))

    async def due_replays(self, stream_id: int, now_ms: int) -> list[ReplayTask]:
        """See ports.Ledger."""
        with translated():
            rows = await self._pool.fetch(SQL.due_replays, stream_id, now_ms)
        return [
            ReplayTask(
                row["id"], row["from_seq"], row["to_seq"], row["misses"], row["attempts"], row["age_ms"],
                row["requested_by"] == "manual",
            )
            for row in rows
        ]  # fmt: skip

    async def note_attempt(
        self, task_id: int, *, found: int, inserted: int, missed: bool, error: str | None, next_ms: int
    ) -> None:
        """See ports.Ledger."""
        async with self._changing() as connection:
            await connection.execute(SQL.note_attempt, task_id, found, inserted, int(missed), error, next_ms)

    async def unresolved(self, stream_id: int, ranges: Ranges, in_flight: Ranges) -> Ranges:
        """See ports.Ledger."""
        with translated():
            text = await self._pool.fetchval(SQL.unresolved, stream_id, to_text(ranges), to_text(in_flight))
        return from_text(text)

    async def stored(self, stream_id: int, numbers: Ranges) -> Mapping[int, StoredRow]:
        """See ports.Ledger."""
        with translated():
            async with self._pool.acquire() as connection:
                return await stored_rows(connection, stream_id, numbers)

    async def ids_stored(self, claims: Sequence[ClaimedId]) -> set[tuple[str, bytes]]:
        """See ports.Ledger."""
        with translated():
            rows = await self._pool.fetch(
                SQL.ids_stored, [c.tenant_id for c in claims], [uuid.UUID(bytes=c.id) for c in claims]
            )
        return {(str(row["tenant_id"]), row["id"].bytes) for row in rows}

    async def once(self, scope: bytes) -> OnceSettled | None:
        """See ports.Ledger."""
        with translated():
            row = await self._pool.fetchrow(SQL.find_once, scope)
        if row is None:
            return None
        return OnceSettled(
            row["body"], row["id_base"].bytes, row["accepted"], row["duplicates"], row["conflicts"],
            row["created_ms"],
        )  # fmt: skip

    async def fold_counts(self) -> int:
        """See ports.Ledger."""
        async with self._changing() as connection:
            return int(await connection.fetchval(SQL.fold_counts))

    async def forget_once(self) -> None:
        """See ports.Ledger."""
        with translated():
            await self._pool.execute(SQL.forget_once)

    async def void_streams(self, in_flight: Mapping[int, Ranges]) -> dict[int, Ranges]:
        """See ports.Ledger."""
        with translated():
            rows = await self._pool.fetch(
                SQL.void_streams, list(in_flight), [to_text(numbers) for numbers in in_flight.values()]
            )
        return {row["stream_id"]: from_text(row["missing"]) for row in rows}

    async def void(self, stream_id: int, numbers: Ranges) -> None:
        """See ports.Ledger."""
        async with self._changing() as connection:
            await connection.execute(SQL.void_numbers, stream_id, to_text(numbers))

    async def streams_with_due_replays(self) -> list[StreamKey]:
        """See ports.Ledger."""
        with translated():
            rows = await self._pool.fetch(SQL.streams_with_due_replays)
        return [StreamKey(str(row["tenant_id"]), row["numbering"], row["epoch"]) for row in rows]

    async def superseded(self) -> list[tuple[StreamKey, int, int]]:
        """See ports.Ledger."""
        with translated():
            rows = await self._pool.fetch(SQL.superseded_streams)
        return [
            (
                StreamKey(str(row["tenant_id"]), row["numbering"], row["epoch"]),
                row["stream_id"],
                row["highest"],
            )
            for row in rows
        ]

    async def sign_off(
        self,
        stream_id: int,
        ranges: Ranges,
        in_flight: Ranges,
        *,
        reason: str,
        by: str,
        note: str | None = None,
    ) -> tuple[int, list[CompletedReplay]]:
        """See ports.Ledger."""
        async with self._changing() as connection:
            await connection.execute(SQL.lock_stream, stream_id)
            count = await lose(connection, stream_id, ranges, in_flight, signed=(reason, note, by))
            return count, await complete(connection, stream_id)


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


def _columns(streams: Sequence[StreamKey]) -> tuple[list[str], list[str], list[int]]:
    return [s.tenant_id for s in streams], [s.numbering for s in streams], [s.epoch for s in streams]
