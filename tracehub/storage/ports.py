"""What the pipeline needs from stores, as protocols. Adapters: postgres, redis, memory (shipped fakes).

One conformance suite (tests/conformance) runs on every adapter. All methods raise `Transient` when the store
cannot be reached or is out of room, `BadData` when it refuses the data itself; nothing of a driver leaks.
A cancelled call leaves either nothing or a whole effect behind, and the caller cannot tell which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from tracehub.protocol.ack import StreamState
from tracehub.protocol.messages import Entry, Job, Mark, Outcome, Receipt, Request, StreamKey, by_service
from tracehub.protocol.ranges import EMPTY, Range, Ranges, union
from tracehub.protocol.times import HOUR_MS


@dataclass(frozen=True, slots=True)
class Locked:
    """One stream's ledger row, locked: what of the incoming numbers it knows already."""

    known: Ranges = EMPTY  # incoming and received
    found: Ranges = EMPTY  # incoming and lost: they turn up after all
    settled_ranges: int = 0  # ranges of received, lost and incoming together; one more than its gaps at most


@dataclass(frozen=True, slots=True)
class StoredRow:
    """What a duplicate is compared with."""

    id: bytes
    level: str
    message: str
    ts_ms: int


@dataclass(frozen=True, slots=True)
class Change:
    """What one transaction adds to one stream's ledger row."""

    fresh: Ranges = EMPTY
    found: Ranges = EMPTY
    start: int | None = None
    lost: tuple[tuple[int, int, str], ...] = ()
    dead: Ranges = EMPTY  # lost with reason dead_letter
    duplicates: int = 0
    conflicts: int = 0
    void: Ranges = EMPTY  # numbers of the server, of `fresh`, that got no row


ROW_BYTES = 150  # of a row beside its message and attrs, about


@dataclass(frozen=True, slots=True)
class Hour:
    """Which entries are counted together: those of an hour (Unix hours) of a tenant, a service, a severity."""

    tenant_id: str
    hour: int
    service: str
    severity: int


@dataclass(frozen=True, slots=True)
class ClaimedId:
    """An id that a client gave: whose, and the time of its entry."""

    tenant_id: str
    id: bytes
    ts_ms: int


@dataclass(frozen=True, slots=True)
class OnceSettled:
    """The committed request of an Idempotency-Key: its body's digest, its ids, its outcome."""

    body: bytes
    id_base: bytes
    accepted: int
    duplicates: int
    conflicts: int
    created_ms: int


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of a commit: to those who look (an encoded message of the live bus), and for those who follow
    (whose entries, and an encoded Committed; empty when nothing was stored)."""

    live: bytes = b""
    tenants: Collection[str] = ()
    committed: bytes = b""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry that is set aside: a conflict, or one that the store refuses."""

    request: Request
    entry: Entry
    entry_id: bytes
    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class CompletedReplay:
    """A replay request that a commit has completed; feeds the event `replay:completed`."""

    id: int
    stream_id: int
    first: int
    last: int
    count: int
    latency_ms: int


@dataclass(frozen=True, slots=True)
class ReplayTask:
    """An open replay request that is due."""

    id: int
    first: int
    last: int
    misses: int
    attempts: int
    age_ms: int
    manual: bool


class Rows(Protocol):
    """Rows of one or more requests, encoded for the store before any lock is taken."""

    def leave_out(self, request: int, indexes: set[int]) -> None:
        """Drop entries of the request at this position from what will be inserted."""


class LedgerTransaction(Protocol):
    """The store transaction of ingest.md §3, steps 2 to 5; committed when its block ends without error."""

    async def lock(self, incoming: Mapping[int, Ranges], *, careful: bool = False) -> Mapping[int, Locked]:
        """Lock the streams' rows in ascending order; tell what is known. `careful` believes rows, too."""

    async def stored(self, stream_id: int, numbers: Ranges) -> Mapping[int, StoredRow]:
        """The rows of these numbers that still exist."""

    async def claim_ids(self, claims: Sequence[ClaimedId]) -> Mapping[tuple[str, bytes], StoredRow | None]:
        """Write down ids, all different; those that were there before, with their rows as far as there are any."""

    async def claim_once(self, request: Request) -> bool:
        """Write down the request's Idempotency-Key; False when another request was first."""

    async def settle_once(self, request: Request, outcome: Outcome) -> None:
        """Write down what became of it."""

    async def insert(self, rows: Rows) -> None:
        """COPY what was not left out."""

    async def count(self, counts: Mapping[Hour, tuple[int, int]]) -> None:
        """Add (entries, bytes) to what is counted."""

    async def add(
        self, changes: Mapping[int, Change], in_flight: Mapping[int, Ranges]
    ) -> tuple[Mapping[int, StreamState], list[CompletedReplay]]:
        """Add to the ledger, sign off what is given up, open and complete replay requests."""

    async def dead_letter(self, letters: Sequence[DeadLetter], streams: Mapping[StreamKey, int]) -> None:
        """Keep entries that could not be stored."""

    async def gaps_with(self, stream_id: int, numbers: Ranges) -> int:
        """How many gaps the locked stream would have with these numbers."""


class Ledger(Protocol):
    """Postgres, or the memory that stands for it."""

    async def resolve(self, streams: Sequence[StreamKey]) -> Mapping[StreamKey, int]:
        """The stream ids, absent rows made in ascending order. Streams over a limit are left out."""

    async def ensure_partitions(self, times_ms: Sequence[int], most: int) -> bool:
        """Make the partitions for these times, at most `most` new ones; False = some are still absent."""

    def encode(self, requests: Sequence[Request], streams: Mapping[StreamKey, int], now_ms: int) -> Rows:
        """Build the rows outside of any lock."""

    async def store_whole(
        self,
        requests: Sequence[Request],
        streams: Mapping[StreamKey, int],
        in_flight: Mapping[int, Ranges],
        now_ms: int,
    ) -> Mapping[StreamKey, StreamState]:
        """A few requests in one step: lock, insert, add, commit. It stores the streams of which every number is
        new, no replay is open, and nothing is missing afterwards; it tells their states, and leaves the others
        as they are. The numbers of the requests are disjoint, and they say nothing of starts or losses."""

    def transaction(self) -> AbstractAsyncContextManager[LedgerTransaction]:
        """Open a store transaction."""

    async def state(self, stream: StreamKey, in_flight: Ranges) -> StreamState | None:
        """One stream as it is committed; None when it is unknown."""

    async def epochs(self, tenant_id: str, numbering: str) -> list[int]:
        """The known epochs of a service, ascending."""

    async def due_replays(self, stream_id: int, now_ms: int) -> list[ReplayTask]:
        """Open requests of a stream whose next attempt is due; they become `running`."""

    async def note_attempt(
        self, task_id: int, *, found: int, inserted: int, missed: bool, error: str | None, next_ms: int
    ) -> None:
        """Write down what an attempt saw, and when the next is due."""

    async def unresolved(self, stream_id: int, ranges: Ranges, in_flight: Ranges) -> Ranges:
        """The numbers of these ranges that are neither received, nor lost, nor in flight."""

    async def stored(self, stream_id: int, numbers: Ranges) -> Mapping[int, StoredRow]:
        """The committed rows of these numbers that still exist."""

    async def ids_stored(self, claims: Sequence[ClaimedId]) -> set[tuple[str, bytes]]:
        """Which of these ids are written down, in a committed transaction."""

    async def once(self, scope: bytes) -> OnceSettled | None:
        """The committed request of an Idempotency-Key."""

    async def fold_counts(self) -> int:
        """Fold what transactions counted into the counts by hour; how many changes there were."""

    async def forget_once(self) -> None:
        """Drop keys older than 24 h."""

    async def void_streams(self, in_flight: Mapping[int, Ranges]) -> dict[int, Ranges]:
        """Numberings of the server with the numbers that are neither stored nor in flight; at most 1,000."""

    async def void(self, stream_id: int, numbers: Ranges) -> None:
        """Close numbers that nobody got."""

    async def streams_with_due_replays(self) -> list[StreamKey]:
        """Streams that have an open replay request to look after now; at most 1,000."""

    async def superseded(self) -> list[tuple[StreamKey, int, int]]:
        """(stream, its id, highest number) of older epochs with gaps whose successor said where it starts."""

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
        """Lock the row and sign off as lost what is unresolved of these ranges; how many numbers that were."""


_NOTHING = Told()


class Queue(Protocol):
    """The queue's Redis: jobs, in-flight marks, receipts, live messages."""

    async def marks(self) -> Mapping[str, Mark]:
        """All marks by job id. Read them before the ledger, never after."""

    async def settle(self, receipts: Sequence[tuple[Job, Receipt]], told: Told = _NOTHING) -> None:
        """End the jobs, with their marks; tell those who follow, the viewers, and the waiting backends."""

    async def enqueue_replay(self, stream: StreamKey, delay_ms: int) -> None:
        """Ask for a replay of this stream; a no-op while one waits or runs."""

    async def publish(self, event: str, data: Mapping[str, Any]) -> None:
        """Tell the viewers. Best effort: what is not heard is not missed."""


@dataclass(frozen=True, slots=True)
class BufferMeta:
    """A producer's buffer at one moment; None where it says nothing."""

    epoch: int | None
    next: int | None
    start: int | None
    entries: int


class Buffers(Protocol):
    """The producers' buffers. Raises `Transient` when they are out of reach."""

    async def read(
        self, tenant_id: str, service: str, span: Range, most: int
    ) -> tuple[BufferMeta, list[bytes]]:
        """Meta and up to `most` members with span[0] <= seq <= span[1], ascending, in one MULTI."""

    async def numbers(self, tenant_id: str, service: str) -> tuple[BufferMeta, Ranges]:
        """Meta, and which numbers are buffered."""


def in_flight_by_stream(marks: Iterable[Mark], streams: Mapping[StreamKey, int]) -> dict[int, Ranges]:
    """The numbers in flight of each stream asked for."""
    found: dict[int, list[Ranges]] = {}
    for mark in marks:
        for marked in mark.streams:
            stream_id = streams.get(marked.stream)
            if stream_id is not None:
                found.setdefault(stream_id, []).append(marked.ranges)
    return {stream_id: union(*parts) for stream_id, parts in found.items()}


def numbers_by_stream(requests: Iterable[Request], streams: Mapping[StreamKey, int]) -> dict[int, Ranges]:
    """The numbers that requests bring to each stream."""
    found: dict[int, list[Ranges]] = {}
    for request in requests:
        found.setdefault(streams[request.stream], []).append(request.ranges)
    return {stream_id: union(*parts) for stream_id, parts in found.items()}


def counted(fresh: Iterable[tuple[Request, set[int]]]) -> dict[Hour, tuple[int, int]]:
    """Entries and bytes by hour of what was stored: requests, and which places of each were left out."""
    counts: dict[Hour, tuple[int, int]] = {}
    for request, left_out in fresh:
        for (tenant_id, service), entries in by_service(request, left_out).items():
            # This runs once per row: the bytes are added up by the group, and shared out to its hours.
            size = sum([len(e.message) for e in entries]) + ROW_BYTES * len(entries)
            size += sum([len(e.attrs) for e in entries if e.attrs])
            for key, count in Counter([e.ts_ms // HOUR_MS << 5 | e.severity for e in entries]).items():
                name = Hour(tenant_id, key >> 5, service, key & 31)
                before = counts.get(name, (0, 0))
                counts[name] = (before[0] + count, before[1] + size * count // len(entries))
    return counts
