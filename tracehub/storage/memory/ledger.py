"""The ledger in memory (ports.Ledger): for the simulation, and for trying the pipeline without servers.

It has what the promise rests on: transactions that happen whole or not at all, row locks held until their
end, a commit whose answer may be lost. `pause` is awaited wherever the real one would wait, so a simulation
may switch, or end, a process there. What it lacks: SQL, speed, disk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from tracehub.protocol import ranges as r
from tracehub.protocol.ack import StreamState, ack_till
from tracehub.protocol.errors import BadData, LedgerDisagrees
from tracehub.protocol.messages import Entry, Outcome, Request, StreamKey, id_of
from tracehub.protocol.ranges import EMPTY, Ranges
from tracehub.storage.memory.stream import Stream
from tracehub.storage.ports import (
    Change,
    ClaimedId,
    CompletedReplay,
    DeadLetter,
    Hour,
    LedgerTransaction,
    Locked,
    OnceSettled,
    ReplayTask,
    Rows,
    StoredRow,
    counted,
    numbers_by_stream,
)

Pause = Callable[[], Awaitable[None]]


async def no_pause() -> None:
    """Nothing happens in between."""


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """One row of `logs`."""

    stream_id: int
    entry: Entry
    id: bytes
    batch_id: str


def as_stored(row: MemoryRow) -> StoredRow:
    """What a duplicate is compared with."""
    return StoredRow(row.id, row.entry.level, row.entry.message, row.entry.ts_ms)


class MemoryRows:
    """Rows of several requests (ports.Rows)."""

    def __init__(self, requests: Sequence[Request], streams: Mapping[StreamKey, int]) -> None:
        self.parts = [
            [MemoryRow(streams[q.stream], e, id_of(q, i), q.batch_id) for i, e in enumerate(q.entries)]
            for q in requests
        ]

    def leave_out(self, request: int, indexes: set[int]) -> None:
        """See ports.Rows."""
        self.parts[request] = [row for i, row in enumerate(self.parts[request]) if i not in indexes]


class MemoryLedger:
    """`refuses(entry)` makes an entry poison. `times_ms()` is the database's clock."""

    def __init__(
        self,
        *,
        pause: Pause = no_pause,
        now_ms: Callable[[], int] = lambda: 0,
        refuses: Callable[[Entry], bool] = lambda _: False,
        gap_grace_ms: int = 500,
        epochs_max: int = 100,
        services_max: int = 10_000,
    ) -> None:
        self.pause = pause
        self.now_ms = now_ms
        self.refuses = refuses
        self.gap_grace_ms = gap_grace_ms
        self._limits = (epochs_max, services_max)
        self.ids: dict[StreamKey, int] = {}
        self.streams: dict[int, Stream] = {}
        self.rows: dict[tuple[int, int], MemoryRow] = {}
        self.letters: dict[bytes, DeadLetter] = {}
        self.locks: dict[int, object] = {}
        self.counts: dict[Hour, tuple[int, int]] = {}  # entries, bytes
        self.entry_ids: set[tuple[str, bytes]] = set()
        self.id_holders: dict[
            tuple[str, bytes], object
        ] = {}  # claimed by a transaction that is not committed
        self.settled_once: dict[bytes, OnceSettled] = {}
        self.next_replay = 1
        self.version = 0  # grows with every change of rows or ledger

    async def resolve(self, streams: Sequence[StreamKey]) -> Mapping[StreamKey, int]:
        """See ports.Ledger."""
        await self.pause()
        for stream in sorted(set(streams)):
            if stream not in self.ids and self._allowed(stream):
                self.ids[stream] = len(self.ids) + 1
                self.streams[self.ids[stream]] = Stream(stream)
        return {stream: self.ids[stream] for stream in streams if stream in self.ids}

    def _allowed(self, stream: StreamKey) -> bool:
        own = [s for s in self.ids if s.tenant_id == stream.tenant_id]
        epochs = sum(s.numbering == stream.numbering for s in own)
        services = len({s.numbering for s in own})
        return stream.by_server or (epochs < self._limits[0] and (epochs > 0 or services < self._limits[1]))

    async def ensure_partitions(self, times_ms: Sequence[int], most: int) -> bool:
        """See ports.Ledger."""
        return True

    def encode(self, requests: Sequence[Request], streams: Mapping[StreamKey, int], now_ms: int) -> Rows:
        """See ports.Ledger."""
        return MemoryRows(requests, streams)

    async def store_whole(
        self,
        requests: Sequence[Request],
        streams: Mapping[StreamKey, int],
        in_flight: Mapping[int, Ranges],
        now_ms: int,
    ) -> Mapping[StreamKey, StreamState]:
        """See ports.Ledger."""
        fresh = numbers_by_stream(requests, streams)
        names = {streams[q.stream]: q.stream for q in requests}
        async with self.transaction() as tx:
            locked = await tx.lock(fresh)
            whole = {
                stream_id: numbers
                for stream_id, numbers in fresh.items()
                if not locked[stream_id].known
                and not locked[stream_id].found
                and self.streams[stream_id].would_be_whole(numbers, in_flight.get(stream_id, EMPTY))
            }
            taken = [q for q in requests if streams[q.stream] in whole]
            await tx.insert(self.encode(taken, streams, now_ms))
            await tx.count(counted((q, set()) for q in taken))
            changes = {stream_id: Change(fresh=numbers) for stream_id, numbers in whole.items()}
            states, _ = await tx.add(changes, in_flight)
        return {names[stream_id]: state for stream_id, state in states.items()}

    def transaction(self) -> MemoryTransaction:
        """See ports.Ledger."""
        return MemoryTransaction(self)

    async def state(self, stream: StreamKey, in_flight: Ranges) -> StreamState | None:
        """See ports.Ledger."""
        await self.pause()
        stream_id = self.ids.get(stream)
        return None if stream_id is None else self.streams[stream_id].state(stream_id, in_flight)

    async def stored(self, stream_id: int, numbers: Ranges) -> Mapping[int, StoredRow]:
        """See ports.Ledger."""
        await self.pause()
        return self.stored_now(stream_id, numbers)

    def stored_now(self, stream_id: int, numbers: Ranges) -> dict[int, StoredRow]:
        """The committed rows of these numbers."""
        found: dict[int, StoredRow] = {}
        for number in r.numbers(numbers):
            row = self.rows.get((stream_id, number))
            if row is not None:
                found[number] = as_stored(row)
        return found

    async def epochs(self, tenant_id: str, numbering: str) -> list[int]:
        """See ports.Ledger."""
        await self.pause()
        return sorted(s.epoch for s in self.ids if (s.tenant_id, s.numbering) == (tenant_id, numbering))

    async def due_replays(self, stream_id: int, now_ms: int) -> list[ReplayTask]:
        """See ports.Ledger."""
        await self.pause()
        stream = self.streams[stream_id]
        due = [q for q in stream.replays.values() if q.open and q.next_ms <= now_ms]
        for q in due:
            stream.replays[q.id] = replace(q, status="running", attempts=q.attempts + 1)
        return [
            ReplayTask(q.id, q.first, q.last, q.misses, q.attempts + 1, now_ms - q.created_ms, q.manual)
            for q in due
        ]

    async def note_attempt(
        self, task_id: int, *, found: int, inserted: int, missed: bool, error: str | None, next_ms: int
    ) -> None:
        """See ports.Ledger."""
        await self.pause()
        for stream in self.streams.values():
            q = stream.replays.get(task_id)
            if q is not None:
                stream.replays[task_id] = replace(
                    q, found=q.found + found, inserted=q.inserted + inserted, misses=q.misses + missed,
                    error=error, next_ms=next_ms, status="pending" if q.status == "running" else q.status,
                )  # fmt: skip

    async def unresolved(self, stream_id: int, ranges: Ranges, in_flight: Ranges) -> Ranges:
        """See ports.Ledger."""
        await self.pause()
        return self.streams[stream_id].unresolved(ranges, in_flight)

    async def ids_stored(self, claims: Sequence[ClaimedId]) -> set[tuple[str, bytes]]:
        """See ports.Ledger."""
        await self.pause()
        return {(c.tenant_id, c.id) for c in claims} & self.entry_ids

    async def once(self, scope: bytes) -> OnceSettled | None:
        """See ports.Ledger."""
        await self.pause()
        return self.settled_once.get(scope)

    async def fold_counts(self) -> int:
        """See ports.Ledger."""
        return 0

    async def forget_once(self) -> None:
        """See ports.Ledger."""

    async def void_streams(self, in_flight: Mapping[int, Ranges]) -> dict[int, Ranges]:
        """See ports.Ledger."""
        await self.pause()
        found = {
            stream_id: stream.unstored(in_flight.get(stream_id, EMPTY))
            for stream_id, stream in self.streams.items()
            if stream.key.by_server
        }
        return {stream_id: numbers for stream_id, numbers in found.items() if numbers}

    async def void(self, stream_id: int, numbers: Ranges) -> None:
        """See ports.Ledger."""
        while self.locks.get(stream_id) is not None:
            await self.pause()
        stream = self.streams[stream_id]
        gone = stream.unresolved(numbers, EMPTY)
        stream.received, stream.void = r.union(stream.received, gone), r.union(stream.void, gone)
        self.version += 1

    async def streams_with_due_replays(self) -> list[StreamKey]:
        """See ports.Ledger."""
        await self.pause()
        now = self.now_ms()
        return [
            s.key
            for s in self.streams.values()
            if any(q.open and q.next_ms <= now for q in s.replays.values())
        ]

    async def superseded(self) -> list[tuple[StreamKey, int, int]]:
        """See ports.Ledger."""
        await self.pause()
        return [
            (s.key, stream_id, s.highest)
            for stream_id, s in self.streams.items()
            if s.missing(EMPTY) and any(self._follows(other, s) for other in self.streams.values())
        ]

    @staticmethod
    def _follows(newer: Stream, older: Stream) -> bool:
        same = (newer.key.tenant_id, newer.key.numbering) == (older.key.tenant_id, older.key.numbering)
        return same and newer.key.epoch > older.key.epoch and newer.start is not None

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
        while self.locks.get(stream_id) is not None:
            await self.pause()
        stream = self.streams[stream_id]
        self.version += 1
        count = stream.lose(ranges, in_flight, reason=reason, by=by)
        return count, stream.complete_replays(stream_id, self.now_ms())

    async def proof(self, tenant_id: str, service: str | None) -> list[dict[str, Any]]:
        """See pipeline.proof.ProofLedger."""
        return [
            {
                "stream_id": stream_id, "service": s.key.numbering, "epoch": s.key.epoch,
                "ack_till": ack_till(s.received, s.lost), "highest": s.highest, "expired": 0, "void": r.count(s.void),
                "duplicates": s.duplicates, "conflicts": s.conflicts,
            }
            for stream_id, s in self.streams.items()
            if s.key.tenant_id == tenant_id and service in (None, s.key.numbering)
        ]  # fmt: skip

    async def proof_of_buffer(self, stream_id: int, buffered: Ranges, in_flight: Ranges) -> dict[str, Any]:
        """See pipeline.proof.ProofLedger."""
        s = self.streams[stream_id]
        held = s.unresolved(buffered, EMPTY)
        return {
            "buffered": r.count(held), "in_flight": r.count(s.unresolved(in_flight, held)),
            "received": r.count(s.received), "lost": r.count(s.lost), "highest": s.highest,
        }  # fmt: skip


class MemoryTransaction(LedgerTransaction):
    """Works on copies; everything becomes true in one step at the end of the block, or nothing does."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger
        self._streams: dict[int, Stream] = {}
        self._rows: dict[tuple[int, int], MemoryRow] = {}
        self._letters: list[DeadLetter] = []
        self._counts: list[tuple[Hour, tuple[int, int]]] = []
        self._once: dict[bytes, OnceSettled] = {}

    async def __aenter__(self) -> LedgerTransaction:
        await self._ledger.pause()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self._ledger.pause()
                self._ledger.streams.update(self._streams)
                self._ledger.rows.update(self._rows)
                self._ledger.version += 1
                for hour, (entries, size) in self._counts:
                    before = self._ledger.counts.get(hour, (0, 0))
                    self._ledger.counts[hour] = (before[0] + entries, before[1] + size)
                self._ledger.settled_once |= self._once
                held = {name for name, holder in self._ledger.id_holders.items() if holder is self}
                self._ledger.entry_ids |= held
                for letter in self._letters:
                    self._ledger.letters.setdefault(letter.entry_id, letter)
        finally:
            for stream_id in [s for s, holder in self._ledger.locks.items() if holder is self]:
                del self._ledger.locks[stream_id]
            for name in [n for n, holder in self._ledger.id_holders.items() if holder is self]:
                del self._ledger.id_holders[name]
        if kind is None:
            await self._ledger.pause()  # committed, but the answer may never arrive

    async def lock(self, incoming: Mapping[int, Ranges], *, careful: bool = False) -> Mapping[int, Locked]:
        """See ports.LedgerTransaction."""
        locked: dict[int, Locked] = {}
        for stream_id in sorted(incoming):
            while self._ledger.locks.get(stream_id) not in (None, self):
                await self._ledger.pause()
            self._ledger.locks[stream_id] = self
            stream = self._ledger.streams[stream_id].copy()
            self._streams[stream_id] = stream
            numbers = incoming[stream_id]
            known = r.intersect(r.subtract(stream.received, stream.void), numbers)
            if careful:
                present = (n for n in r.numbers(numbers) if (stream_id, n) in self._ledger.rows)
                known = r.union(known, r.of_numbers(present))
            settled = r.union(stream.received, stream.lost, numbers)
            locked[stream_id] = Locked(known, r.intersect(stream.lost, numbers), len(settled))
        return locked

    async def gaps_with(self, stream_id: int, numbers: Ranges) -> int:
        """See ports.LedgerTransaction."""
        settled = r.union(self._streams[stream_id].received, self._streams[stream_id].lost, numbers)
        return len(r.subtract(((1, r.highest(settled)),), settled)) if settled else 0

    async def stored(self, stream_id: int, numbers: Ranges) -> Mapping[int, StoredRow]:
        """See ports.LedgerTransaction."""
        await self._ledger.pause()
        return self._ledger.stored_now(stream_id, numbers)

    async def claim_ids(self, claims: Sequence[ClaimedId]) -> Mapping[tuple[str, bytes], StoredRow | None]:
        """See ports.LedgerTransaction."""
        await self._ledger.pause()
        taken: dict[tuple[str, bytes], StoredRow | None] = {}
        for claim in claims:
            name = (claim.tenant_id, claim.id)
            while self._ledger.id_holders.get(name) not in (None, self):
                await self._ledger.pause()
            if name in self._ledger.entry_ids:
                rows = (row for row in self._ledger.rows.values() if row.id == claim.id)
                taken[name] = next((as_stored(row) for row in rows), None)
            else:
                self._ledger.id_holders[name] = self
        return taken

    async def claim_once(self, request: Request) -> bool:
        """See ports.LedgerTransaction."""
        assert request.once is not None
        await self._ledger.pause()
        name = ("once", request.once.scope)
        while self._ledger.id_holders.get(name) not in (None, self):
            await self._ledger.pause()
        self._ledger.id_holders[name] = self
        claim = OnceSettled(request.once.body, request.id_base, 0, 0, 0, 0)
        standing = self._ledger.settled_once.get(request.once.scope) or self._once.setdefault(name[1], claim)
        return standing.id_base == request.id_base

    async def settle_once(self, request: Request, outcome: Outcome) -> None:
        """See ports.LedgerTransaction."""
        assert request.once is not None
        self._once[request.once.scope] = OnceSettled(
            request.once.body, request.id_base, outcome.accepted, outcome.duplicates, outcome.conflicts,
            outcome.created_ms,
        )  # fmt: skip

    async def insert(self, rows: Rows) -> None:
        """See ports.LedgerTransaction."""
        assert isinstance(rows, MemoryRows)
        await self._ledger.pause()
        for part in rows.parts:
            for row in part:
                place = (row.stream_id, row.entry.seq)
                if self._ledger.refuses(row.entry):
                    raise BadData("the store refuses the entry")
                if place in self._ledger.rows or place in self._rows:
                    raise LedgerDisagrees
                self._rows[place] = row

    async def count(self, counts: Mapping[Hour, tuple[int, int]]) -> None:
        """See ports.LedgerTransaction."""
        self._counts += list(counts.items())

    async def add(
        self, changes: Mapping[int, Change], in_flight: Mapping[int, Ranges]
    ) -> tuple[Mapping[int, StreamState], list[CompletedReplay]]:
        """See ports.LedgerTransaction."""
        await self._ledger.pause()
        now = self._ledger.now_ms()
        states: dict[int, StreamState] = {}
        completed: list[CompletedReplay] = []
        for stream_id, change in changes.items():
            stream, flying = self._streams[stream_id], in_flight.get(stream_id, EMPTY)
            stream.add(change, flying)
            due = now + self._ledger.gap_grace_ms
            queued = stream.open_replays(flying, self._ledger.next_replay, (now, due))
            self._ledger.next_replay += queued
            completed += stream.complete_replays(stream_id, now)
            states[stream_id] = stream.state(stream_id, flying, queued)
        return states, completed

    async def dead_letter(self, letters: Sequence[DeadLetter], streams: Mapping[StreamKey, int]) -> None:
        """See ports.LedgerTransaction."""
        self._letters += letters
