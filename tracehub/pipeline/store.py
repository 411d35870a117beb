"""Store: from requests to committed rows, ledger and outcomes. The use case behind every acknowledgement.

Guarantee: an outcome is returned only after the commit of the transaction that holds its rows and its ledger
change. Invariants: (1) marks are read before the ledger; (2) a number enters `received` exactly when its row
is inserted; (3) a request is stored whole or not at all, save for an entry that the store refuses, which is
set aside alone and signed off as lost; (4) a job may run any number of times.
Failures: Transient goes up, nothing is decided; BadData is narrowed down to the entry here.
Not here: queues, retries, time-outs, who is told (apps/worker).
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tracehub.pipeline.dedupe import Verdict, judge, same, suspects
from tracehub.protocol import ranges as r
from tracehub.protocol.ack import StreamState
from tracehub.protocol.errors import BadData, LedgerDisagrees, Transient
from tracehub.protocol.limits import PARTITIONS_PER_JOB_MAX
from tracehub.protocol.messages import Entry, Mark, Outcome, Request, StreamKey, entry_id
from tracehub.protocol.ranges import EMPTY, Ranges
from tracehub.protocol.times import DAY_MS
from tracehub.storage.ports import (
    Change,
    ClaimedId,
    CompletedReplay,
    DeadLetter,
    Ledger,
    LedgerTransaction,
    Locked,
    StoredRow,
    counted,
    in_flight_by_stream,
    numbers_by_stream,
)

SMALL_ROWS_MAX = 128
REPEATED = "repeated"  # another request with this Idempotency-Key is committed


class PartitionsPending(Transient):
    """Partitions are being made; the batch is stored as soon as they are there"""


# The marks of other jobs. Awaited in each transaction, before its first lock: so they may be on their way while
# the transaction begins.
Marks = Callable[[], Awaitable[Sequence[Mark]]]


def seen(*marks: Mark) -> Marks:
    """Marks that were read already."""

    async def read() -> Sequence[Mark]:
        return marks

    return read


@dataclass(frozen=True, slots=True)
class Moment:
    """What a store run sees of the outside: the marks of other jobs, and the time."""

    marks: Marks
    now_ms: int
    gap_ranges_max: int = 2_000


@dataclass(slots=True)
class Stored:
    """What one or more transactions did. `outcomes` is in the order of the requests."""

    outcomes: list[Outcome] = field(default_factory=list)
    states: dict[StreamKey, StreamState] = field(default_factory=dict)
    completed: list[tuple[StreamKey, CompletedReplay]] = field(default_factory=list)
    fresh: list[tuple[Request, set[int]]] = field(default_factory=list)  # and what was left out of each
    dead_letters: int = 0
    created_ms: int = 0  # what the rows say of when they were written

    def absorb(self, other: Stored) -> None:
        """Take over what a later transaction did; its states are newer."""
        self.outcomes += other.outcomes
        self.states |= other.states
        self.completed += other.completed
        self.fresh += other.fresh
        self.dead_letters += other.dead_letters


async def store(ledger: Ledger, requests: Sequence[Request], moment: Moment) -> Stored:
    """Store a group of requests; narrows bad data down to the entry. Raises Transient."""
    if len(requests) <= SMALL_ROWS_MAX and sum(len(q.entries) for q in requests) <= SMALL_ROWS_MAX:
        return await _store_small(ledger, requests, moment)
    return await _store_group(ledger, requests, moment)


async def _store_small(ledger: Ledger, requests: Sequence[Request], moment: Moment) -> Stored:
    """What a few clean requests need in one step, the rest by the long way: a small group costs round trips,
    not rows."""
    whole: Mapping[StreamKey, StreamState] = {}
    if plain := _plain(requests):
        streams = await _prepare(ledger, plain)
        plain = [q for q in plain if q.stream in streams]
        flying = in_flight_by_stream(await moment.marks(), streams)
        with contextlib.suppress(BadData, LedgerDisagrees):  # the long way finds out what it is
            whole = await ledger.store_whole(plain, streams, flying, moment.now_ms) if plain else {}
    rest = [q for q in requests if q.stream not in whole]
    done = await _store_group(ledger, rest, moment) if rest else Stored(created_ms=moment.now_ms)
    outcomes = iter(done.outcomes)
    done.outcomes = [
        Outcome(
            len(q.entries),
            0,
            0,
            "",
            whole[q.stream].ack_till,
            whole[q.stream].highest_seen,
            created_ms=moment.now_ms,
        )
        if q.stream in whole
        else next(outcomes)
        for q in requests
    ]
    done.states |= whole
    done.fresh = [(q, set()) for q in requests if q.stream in whole] + done.fresh
    return done


def _plain(requests: Sequence[Request]) -> list[Request]:
    """The requests of streams of which every request is a plain one: entries under different numbers, no word of
    starts or losses, no ids or keys of clients."""
    seen: dict[StreamKey, Ranges] = {}
    special: set[StreamKey] = set()
    for q in requests:
        before = seen.get(q.stream, EMPTY)
        if (
            q.start is not None
            or q.lost
            or q.once is not None
            or any(e.own is not None and e.own.id is not None for e in q.entries)
            or r.intersect(before, q.ranges)
            or r.count(q.ranges) != len(q.entries)
        ):
            special.add(q.stream)
        seen[q.stream] = r.union(before, q.ranges)
    return [q for q in requests if q.stream not in special]


async def _prepare(
    ledger: Ledger, requests: Sequence[Request], *, dead: bool = False
) -> Mapping[StreamKey, int]:
    """Partitions and ledger rows, made before anything is locked. Raises PartitionsPending."""
    times = {e.ts_ms // DAY_MS: e.ts_ms for q in requests for e in q.entries}
    if not dead and not await ledger.ensure_partitions(list(times.values()), PARTITIONS_PER_JOB_MAX):
        raise PartitionsPending
    return await ledger.resolve([q.stream for q in requests])


async def _store_group(ledger: Ledger, requests: Sequence[Request], moment: Moment) -> Stored:
    try:
        return await _store_once(ledger, requests, moment)
    except LedgerDisagrees:
        return await _store_once(ledger, requests, moment, careful=True)
    except BadData as refusal:
        if len(requests) > 1:
            done = Stored(created_ms=moment.now_ms)
            for request in requests:
                done.absorb(await _store_group(ledger, [request], moment))
            return done
        return await _narrow(ledger, requests[0], moment, refusal)


async def set_aside(ledger: Ledger, requests: Sequence[Request], moment: Moment, reason: str) -> Stored:
    """Keep all entries as dead letters and sign their numbers off: the way out for what nothing can store."""
    return await _store_once(ledger, requests, moment, dead=reason)


async def _narrow(ledger: Ledger, request: Request, moment: Moment, refusal: BadData) -> Stored:
    """Halve a refused request until the entry that the store refuses stands alone; set that one aside."""
    size = len(request.entries)
    if size == 0:
        raise refusal
    if size == 1:
        return await _store_once(ledger, [request], moment, dead=refusal.message)
    done = Stored(created_ms=moment.now_ms)
    for first, last in ((0, size // 2), (size // 2, size)):
        done.absorb(await _store_group(ledger, [_part(request, first, last)], moment))
    halves = done.outcomes
    done.outcomes = [_joined(halves)]
    return done


def _part(request: Request, first: int, last: int) -> Request:
    entries = request.entries[first:last]
    return Request(
        request.stream, request.door, request.service, request.batch_id,
        entry_id(request.id_base, first), r.of_numbers(e.seq for e in entries), entries,
        request.start if first == 0 else None, request.lost if first == 0 else (),
    )  # fmt: skip


def _joined(parts: Sequence[Outcome]) -> Outcome:
    last = parts[-1]
    return Outcome(
        sum(p.accepted for p in parts), sum(p.duplicates for p in parts), sum(p.conflicts for p in parts),
        next((p.refused for p in parts if p.refused), ""), last.ack_till, last.highest_seen, last.missing,
        last.missing_count, sum(p.replay_queued for p in parts),
    )  # fmt: skip


async def _store_once(
    ledger: Ledger, requests: Sequence[Request], moment: Moment, *, careful: bool = False, dead: str = ""
) -> Stored:
    streams = await _prepare(ledger, requests, dead=bool(dead))
    taken = [request for request in requests if request.stream in streams]
    rows = ledger.encode([] if dead else taken, streams, moment.now_ms)
    incoming = numbers_by_stream(taken, streams)
    refused = {id(request): "overloaded" for request in requests if request.stream not in streams}
    done = Stored(created_ms=moment.now_ms)
    async with ledger.transaction() as tx:
        flying = in_flight_by_stream(await moment.marks(), streams)
        locked = await tx.lock(incoming, careful=careful)
        for request in await _too_many_gaps(tx, taken, (locked, streams), moment.gap_ranges_max):
            refused[id(request)] = "too_many_gaps"
        known = {stream: locked[stream_id].known for stream, stream_id in streams.items()}
        for request in await _repeated(tx, taken):
            refused[id(request)] = REPEATED
        admitted = [request for request in taken if id(request) not in refused]
        verdicts = await _judged(tx, admitted, known, streams)
        voids = await _claimed(tx, admitted, verdicts) if not dead else {}
        verdict_of = {id(request): v for request, v in zip(admitted, verdicts, strict=True)}
        if not dead:
            for position, request in enumerate(taken):
                verdict = verdict_of.get(id(request))
                left_out = verdict.left_out if verdict else set(range(len(request.entries)))
                if left_out:
                    rows.leave_out(position, left_out)
            await tx.insert(rows)
            await tx.count(counted((q, v.left_out) for q, v in zip(admitted, verdicts, strict=True)))
        letters = _letters(admitted, verdicts, dead)
        await tx.dead_letter(letters, streams)
        changes = _changes(admitted, verdicts, (locked, streams), dead=bool(dead))
        for stream, numbers in voids.items():
            changes[streams[stream]] = replace(changes[streams[stream]], void=numbers)
        states, completed = await tx.add(changes, flying)
        names = {stream_id: stream for stream, stream_id in streams.items()}
        done.states = {names[stream_id]: state for stream_id, state in states.items()}
        done.outcomes = _outcomes(requests, verdict_of, refused, done.states, now_ms=moment.now_ms)
        for request, outcome in zip(requests, done.outcomes, strict=True):
            if request.once is not None and not outcome.refused:
                await tx.settle_once(request, outcome)
    done.completed = [(names[c.stream_id], c) for c in completed]
    done.dead_letters = len(letters)
    if not dead:
        done.fresh = [(request, v.left_out) for request, v in zip(admitted, verdicts, strict=True)]
    return done


async def _repeated(tx: LedgerTransaction, requests: Sequence[Request]) -> list[Request]:
    """Requests whose Idempotency-Key was used by another request that is committed, or stands earlier here."""
    return [q for q in requests if q.once is not None and not await tx.claim_once(q)]


async def _claimed(
    tx: LedgerTransaction, requests: Sequence[Request], verdicts: Sequence[Verdict]
) -> dict[StreamKey, Ranges]:
    """Leave out entries whose id, given by a client, is stored already or stands earlier in the group. Returns the
    numbers that got no row by that."""
    first: dict[tuple[str, bytes], tuple[Verdict, int, StreamKey, Entry]] = {}
    again: list[tuple[Verdict, int, StreamKey, Entry, StoredRow | None]] = []
    for request, verdict in zip(requests, verdicts, strict=True):
        for index, entry in enumerate(request.entries):
            own = entry.own
            if own is None or own.id is None or index in verdict.left_out:
                continue
            place = (verdict, index, request.stream, entry)
            standing = first.setdefault((own.tenant_id, own.id), place)
            if standing is not place:
                e = standing[3]
                again.append((*place, StoredRow(own.id, e.level, e.message, e.ts_ms)))
    claims = [ClaimedId(tenant_id, own_id, place[3].ts_ms) for (tenant_id, own_id), place in first.items()]
    if claims:
        again += [(*first[name], row) for name, row in (await tx.claim_ids(claims)).items()]
    voids: dict[StreamKey, Ranges] = {}
    for verdict, index, stream, entry, row in again:
        verdict.leave_out(index, duplicate=row is None or same(entry, row))
        voids[stream] = r.union(voids.get(stream, EMPTY), ((entry.seq, entry.seq),))
    return voids


async def _judged(
    tx: LedgerTransaction,
    requests: Sequence[Request],
    known: Mapping[StreamKey, Ranges],
    streams: Mapping[StreamKey, int],
) -> list[Verdict]:
    suspected = suspects(requests, known)
    ask: dict[StreamKey, Ranges] = {}
    for request, numbers in zip(requests, suspected, strict=True):
        received = r.intersect(numbers, known[request.stream])
        if received:
            ask[request.stream] = r.union(ask.get(request.stream, EMPTY), received)
    stored = {stream: await tx.stored(streams[stream], numbers) for stream, numbers in ask.items()}
    return judge(requests, suspected, stored, known)


async def _too_many_gaps(
    tx: LedgerTransaction,
    requests: Sequence[Request],
    ledger_rows: tuple[Mapping[int, Locked], Mapping[StreamKey, int]],
    most: int,
) -> list[Request]:
    """Requests that would add a gap to a stream that has as many as it may; in arrival order."""
    locked, streams = ledger_rows
    refused: list[Request] = []
    full = [
        stream
        for stream, stream_id in streams.items()
        if locked[stream_id].settled_ranges > most and not stream.by_server
    ]
    for stream in full:
        stream_id = streams[stream]
        taken: Ranges = EMPTY
        gaps = await tx.gaps_with(stream_id, EMPTY)
        for request in requests:
            if request.stream != stream:
                continue
            after = await tx.gaps_with(stream_id, r.union(taken, request.ranges))
            if after > max(most, gaps):
                refused.append(request)
            else:
                taken, gaps = r.union(taken, request.ranges), after
    return refused


_NO_CHANGE = Change()


def _changes(
    requests: Sequence[Request],
    verdicts: Sequence[Verdict],
    ledger_rows: tuple[Mapping[int, Locked], Mapping[StreamKey, int]],
    *,
    dead: bool,
) -> dict[int, Change]:
    locked, streams = ledger_rows
    changes: dict[int, Change] = {}
    for request, verdict in zip(requests, verdicts, strict=True):
        stream_id = streams[request.stream]
        row = locked[stream_id]
        before = changes.get(stream_id, _NO_CHANGE)
        new = r.subtract(request.ranges, row.known)
        starts = [s for s in (before.start, request.start) if s is not None]
        changes[stream_id] = Change(
            fresh=before.fresh if dead else r.union(before.fresh, new),
            found=before.found if dead else r.union(before.found, r.intersect(new, row.found)),
            start=max(starts, default=None),
            lost=before.lost + request.lost,
            dead=r.subtract(new, row.found) if dead else EMPTY,
            duplicates=before.duplicates + verdict.duplicates,
            conflicts=before.conflicts + len(verdict.conflicts),
        )
    return dict(sorted(changes.items()))


def _letters(requests: Sequence[Request], verdicts: Sequence[Verdict], dead: str) -> list[DeadLetter]:
    letters: list[DeadLetter] = []
    for request, verdict in zip(requests, verdicts, strict=True):
        aside = verdict.conflicts
        if dead and not verdict.left_out:
            aside = list(range(len(request.entries)))
        for index in aside:
            letters.append(
                DeadLetter(
                    request, request.entries[index], entry_id(request.id_base, index),
                    "refused" if dead else "conflict",
                    dead or "the number is stored with other content",
                )
            )  # fmt: skip
    return letters


def _outcomes(
    requests: Sequence[Request],
    verdicts: Mapping[int, Verdict],
    refused: Mapping[int, str],
    states: Mapping[StreamKey, StreamState],
    *,
    now_ms: int,
) -> list[Outcome]:
    """Of requests committed together the first in arrival order carries what was newly put into replay."""
    outcomes: list[Outcome] = []
    told: set[StreamKey] = set()
    for request in requests:
        if id(request) in refused:
            outcomes.append(Outcome(refused=refused[id(request)]))
            continue
        state, verdict = states[request.stream], verdicts[id(request)]
        queued = 0 if request.stream in told else state.replay_queued
        told.add(request.stream)
        outcomes.append(
            Outcome(
                verdict.accepted, verdict.duplicates, len(verdict.conflicts), "", state.ack_till,
                state.highest_seen, state.gaps.ranges, state.gaps.count, queued, now_ms,
            )
        )  # fmt: skip
    return outcomes
