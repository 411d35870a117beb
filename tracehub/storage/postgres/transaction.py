"""One store transaction (ports.LedgerTransaction): lock, subtract, COPY, add. The order is ingest.md §3."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from tracehub.protocol import ranges as r
from tracehub.protocol.ack import Gaps, StreamState
from tracehub.protocol.errors import Transient
from tracehub.protocol.messages import Outcome, Request, StreamKey, encode
from tracehub.protocol.ranges import EMPTY, Ranges
from tracehub.protocol.times import HOUR_MS, moment_of, unix_ms
from tracehub.storage.ports import (
    Change,
    ClaimedId,
    CompletedReplay,
    DeadLetter,
    Hour,
    Locked,
    Rows,
    StoredRow,
)
from tracehub.storage.postgres.multirange import from_text, to_text
from tracehub.storage.postgres.queries import SQL
from tracehub.storage.postgres.rows import COLUMNS, EncodedRows

Connection: TypeAlias = Any  # asyncpg's connection or its pool proxy; the stubs have no common type


class PostgresTransaction:
    """See ports.LedgerTransaction."""

    def __init__(self, connection: Connection, gap_grace_ms: int) -> None:
        self._connection = connection
        self._gap_grace_ms = gap_grace_ms

    async def lock(self, incoming: Mapping[int, Ranges], *, careful: bool = False) -> Mapping[int, Locked]:
        """See ports.LedgerTransaction."""
        rows = await self._connection.fetch(
            SQL.lock_streams, list(incoming), [to_text(numbers) for numbers in incoming.values()]
        )
        if len(rows) < len(incoming):
            # Ids are remembered between transactions; without their rows this is another database.
            raise Transient("the ledger is not the one that was known")
        locked: dict[int, Locked] = {}
        for row in rows:
            stream_id = row["stream_id"]
            known = from_text(row["known"])
            if careful:
                known = r.union(known, await self._present(stream_id, incoming[stream_id]))
            locked[stream_id] = Locked(known, from_text(row["found"]), row["settled_ranges"])
        return locked

    async def _present(self, stream_id: int, numbers: Ranges) -> Ranges:
        rows = await self._connection.fetch(SQL.rows_present, stream_id, list(r.numbers(numbers)))
        return r.of_numbers(row["seq"] for row in rows)

    async def gaps_with(self, stream_id: int, numbers: Ranges) -> int:
        """See ports.LedgerTransaction."""
        return int(await self._connection.fetchval(SQL.gaps_with, stream_id, to_text(numbers)))

    async def stored(self, stream_id: int, numbers: Ranges) -> Mapping[int, StoredRow]:
        """See ports.LedgerTransaction."""
        return await stored_rows(self._connection, stream_id, numbers)

    async def claim_ids(self, claims: Sequence[ClaimedId]) -> Mapping[tuple[str, bytes], StoredRow | None]:
        """See ports.LedgerTransaction."""
        rows = await self._connection.fetch(
            SQL.claim_ids,
            *_claimed(claims),
        )
        taken = [row for row in rows if row["taken"]]
        if not taken:
            return {}
        found: dict[tuple[str, bytes], StoredRow | None] = {_name(row): None for row in taken}
        columns = [[row[name] for row in taken] for name in ("tenant_id", "id", "ts")]
        for row in await self._connection.fetch(SQL.rows_of_ids, *columns):
            found[_name(row)] = _stored_row(row)
        await self._take_over([c for c in claims if found.get((c.tenant_id, c.id), c) is None])
        return {name: row for name, row in found.items() if row is not None}

    async def _take_over(self, expired: Sequence[ClaimedId]) -> None:
        """A partition was dropped, and the ids of its rows are not forgotten yet: they are free."""
        if expired:
            await self._connection.execute(SQL.take_over_ids, *_claimed(expired))

    async def claim_once(self, request: Request) -> bool:
        """See ports.LedgerTransaction."""
        assert request.once is not None
        first = await self._connection.fetchval(
            SQL.claim_once, request.once.scope, request.once.body, uuid.UUID(bytes=request.id_base)
        )
        return bool(first.bytes == request.id_base)

    async def settle_once(self, request: Request, outcome: Outcome) -> None:
        """See ports.LedgerTransaction."""
        assert request.once is not None
        counts = (outcome.accepted, outcome.duplicates, outcome.conflicts, outcome.created_ms)
        await self._connection.execute(SQL.settle_once, request.once.scope, *counts)

    async def insert(self, rows: Rows) -> None:
        """See ports.LedgerTransaction."""
        assert isinstance(rows, EncodedRows)
        if len(rows):
            await self._connection.copy_to_table(
                "logs", source=rows.chunks(), columns=COLUMNS, format="binary"
            )

    async def count(self, counts: Mapping[Hour, tuple[int, int]]) -> None:
        """See ports.LedgerTransaction."""
        if counts:
            await self._connection.execute(
                SQL.count_stored,
                [h.tenant_id for h in counts],
                [moment_of(h.hour * HOUR_MS) for h in counts],
                [h.service for h in counts],
                [h.severity for h in counts],
                [entries for entries, _ in counts.values()],
                [size for _, size in counts.values()],
            )

    async def add(
        self, changes: Mapping[int, Change], in_flight: Mapping[int, Ranges]
    ) -> tuple[Mapping[int, StreamState], list[CompletedReplay]]:
        """See ports.LedgerTransaction."""
        flying = {stream_id: in_flight.get(stream_id, EMPTY) for stream_id in changes}
        await self._sign_off(changes, flying)
        rows = await self._connection.fetch(
            SQL.add_to_streams,
            list(changes),
            [to_text(c.fresh) for c in changes.values()],
            [to_text(c.dead) for c in changes.values()],
            [c.start for c in changes.values()],
            [c.duplicates for c in changes.values()],
            [c.conflicts for c in changes.values()],
            [to_text(numbers) for numbers in flying.values()],
            [r.highest(numbers) for numbers in flying.values()],
            [to_text(c.void) for c in changes.values()],
        )
        states: dict[int, StreamState] = {}
        completed: list[CompletedReplay] = []
        for row in rows:
            stream_id = row["stream_id"]
            numbers = flying[stream_id]
            queued = 0
            if not row["whole"]:
                queued = await self._connection.fetchval(
                    SQL.open_replays, stream_id, to_text(numbers), r.highest(numbers), self._gap_grace_ms
                )
            if row["open_replays"]:
                completed += await complete(self._connection, stream_id)
            gaps = await gaps_of(self._connection, stream_id, numbers, whole=row["whole"])
            states[stream_id] = StreamState(stream_id, row["ack_till"], row["highest"], gaps, queued)
        return states, completed

    async def _sign_off(self, changes: Mapping[int, Change], in_flight: Mapping[int, Ranges]) -> None:
        """Everything that leaves or enters `losses` before the ledger row itself changes."""
        for stream_id, change in changes.items():
            # What is stored by this very transaction is not lost by it.
            spared = r.union(in_flight[stream_id], change.fresh)
            if change.found:
                await self._connection.execute(SQL.find_losses, stream_id, to_text(change.found))
                await self._connection.execute(SQL.drop_found_dead_letters, stream_id, to_text(change.found))
            for first, last, note in change.lost:
                signed = ("producer", note, "producer")
                await lose(self._connection, stream_id, ((first, last),), spared, signed=signed)
            if change.start is not None and change.start > 1:
                below = ((1, change.start - 1),)
                await lose(self._connection, stream_id, below, spared, signed=("start", None, "producer"))
            if change.dead:
                await self._connection.execute(
                    SQL.insert_losses, stream_id, to_text(change.dead), "dead_letter", None, "worker"
                )

    async def dead_letter(self, letters: Sequence[DeadLetter], streams: Mapping[StreamKey, int]) -> None:
        """See ports.LedgerTransaction."""
        if letters:
            await self._connection.execute(
                SQL.insert_dead_letters,
                [d.request.stream.tenant_id for d in letters],
                [streams[d.request.stream] for d in letters],
                [d.entry.seq for d in letters],
                [uuid.UUID(bytes=d.entry_id) for d in letters],
                [d.request.batch_id for d in letters],
                [d.request.door for d in letters],
                [d.reason for d in letters],
                [d.error for d in letters],
                [encode(d.entry) for d in letters],
            )


async def lose(
    connection: Connection,
    stream_id: int,
    ranges: Ranges,
    in_flight: Ranges,
    *,
    signed: tuple[str, str | None, str],
) -> int:
    """Sign off what of these ranges is unresolved; the caller holds the row. Returns how many numbers.

    `signed`: reason, note and by whom.
    """
    gone = from_text(await connection.fetchval(SQL.sign_off, stream_id, to_text(ranges), to_text(in_flight)))
    if gone:
        reason, note, by = signed
        await connection.execute(SQL.insert_losses, stream_id, to_text(gone), reason, note, by)
    return r.count(gone)


async def stored_rows(connection: Connection, stream_id: int, numbers: Ranges) -> dict[int, StoredRow]:
    """What duplicates are compared with."""
    rows = await connection.fetch(SQL.stored_rows, stream_id, list(r.numbers(numbers)))
    return {row["seq"]: _stored_row(row) for row in rows}


def _stored_row(row: Mapping[str, Any]) -> StoredRow:
    return StoredRow(row["id"].bytes, row["level"], row["message"], unix_ms(row["ts"]))


def _claimed(claims: Sequence[ClaimedId]) -> tuple[list[str], list[uuid.UUID], list[int]]:
    return [c.tenant_id for c in claims], [uuid.UUID(bytes=c.id) for c in claims], [c.ts_ms for c in claims]


def _name(row: Mapping[str, Any]) -> tuple[str, bytes]:
    return str(row["tenant_id"]), row["id"].bytes


async def complete(connection: Connection, stream_id: int) -> list[CompletedReplay]:
    """Close replay requests that have nothing left to do."""
    rows = await connection.fetch(SQL.complete_replays, stream_id)
    return [
        CompletedReplay(
            row["id"], stream_id, row["from_seq"], row["to_seq"], row["inserted"], row["latency_ms"]
        )
        for row in rows
    ]


async def gaps_of(connection: Connection, stream_id: int, in_flight: Ranges, *, whole: bool) -> Gaps:
    """What a reply names of a stream's gaps."""
    if whole:
        return Gaps()
    row = await connection.fetchrow(SQL.missing, stream_id, to_text(in_flight), r.highest(in_flight))
    if not row["count"]:
        return Gaps()
    return Gaps(tuple(zip(row["first"], row["last"], strict=True)), row["count"])
