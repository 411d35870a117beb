"""Replay: take gaps out of a producer's buffer and store them; sign off what is provably gone (ingest.md §4).

Guarantee: a number is signed off by replay only after three attempts, 1, 5 and 25 s or later after its gap was
seen, that each found a readable buffer of the same epoch holding other numbers but not this one. An absent,
empty or foreign buffer never counts. What is in flight is left alone.
Cost follows what the buffer holds, not the width of the range. Not here: when replays run (apps/worker).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tracehub.pipeline.store import Moment, Stored, seen, store
from tracehub.protocol import ranges as r
from tracehub.protocol.errors import TraceHubError, Transient
from tracehub.protocol.ids import ID_BASE_RANDOM_BYTES, id_base
from tracehub.protocol.lenient import parse_member
from tracehub.protocol.limits import REPLAY_ATTEMPTS_MS, REPLAY_BACKOFF_MAX_MS, REPLAY_SLICE_ENTRIES
from tracehub.protocol.messages import Entry, Request, StreamKey
from tracehub.protocol.ranges import EMPTY, Ranges
from tracehub.storage.ports import (
    Buffers,
    CompletedReplay,
    Ledger,
    Queue,
    ReplayTask,
    in_flight_by_stream,
)

SINGLE_RANGES_MAX = 50  # more gaps than this are read as one span, to save round trips


@dataclass(slots=True)
class Replayed:
    """What one run did: what was stored, and what was signed off."""

    stored: Stored = field(default_factory=Stored)
    completed: list[tuple[StreamKey, CompletedReplay]] = field(default_factory=list)
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a buffer showed. `trouble` says why it proves nothing, or is None."""

    entries: dict[int, Entry]
    trouble: str | None = None


async def replay(
    ledger: Ledger,
    buffers: Buffers,
    queue: Queue,
    stream: StreamKey,
    *,
    now_ms: int,
    random: Callable[[int], bytes],
    gap_ranges_max: int = 2_000,
) -> Replayed:
    """Run the due requests of one stream. Raises Transient when Postgres or the queue are out of reach."""
    done = Replayed()
    marks = tuple((await queue.marks()).values())
    streams = await ledger.resolve([stream])
    stream_id = streams[stream]
    in_flight = in_flight_by_stream(marks, streams).get(stream_id, EMPTY)
    for task in await ledger.due_replays(stream_id, now_ms):
        rest = await ledger.unresolved(stream_id, ((task.first, task.last),), in_flight)
        look = await _look(buffers, stream, rest, now_ms)
        accepted = 0
        if look.entries:
            moment = Moment(seen(*marks), now_ms, gap_ranges_max)
            for request in _requests(stream, task, look, (now_ms, random)):
                stored = await store(ledger, [request], moment)
                accepted += sum(o.accepted for o in stored.outcomes)
                # The request itself is written down after the commit that completes it.
                stored.completed = [
                    (key, replace(c, count=accepted) if c.id == task.id else c) for key, c in stored.completed
                ]
                done.stored.absorb(stored)
        gone = r.subtract(rest, r.of_numbers(look.entries))
        missed = _counts_as_miss(task, look, gone)
        await ledger.note_attempt(
            task.id,
            found=len(look.entries),
            inserted=accepted,
            missed=missed,
            error=look.trouble,
            next_ms=now_ms + _pause_ms(task, look),
        )
        if not gone or (missed and task.misses + 1 >= len(REPLAY_ATTEMPTS_MS)):
            lost, completed = await _finish(ledger, stream, gone, in_flight)
            done.lost += lost
            done.completed += [(stream, c) for c in completed]
    return done


async def _finish(
    ledger: Ledger, stream: StreamKey, gone: Ranges, in_flight: Ranges
) -> tuple[int, list[CompletedReplay]]:
    """Sign off what is gone, as far as it was ever seen: a number above that may still be made."""
    state = await ledger.state(stream, in_flight)
    assert state is not None
    seen = r.intersect(gone, ((1, state.highest_seen),)) if state.highest_seen else EMPTY
    return await ledger.sign_off(state.stream_id, seen, in_flight, reason="replay", by="replay")


def _counts_as_miss(task: ReplayTask, look: Look, gone: Ranges) -> bool:
    return bool(
        gone
        and look.trouble is None
        and task.misses < len(REPLAY_ATTEMPTS_MS)
        and task.age_ms >= REPLAY_ATTEMPTS_MS[task.misses]
    )


def _pause_ms(task: ReplayTask, look: Look) -> int:
    """Until the next attempt: the next of 1, 5, 25 s of age; longer and longer when nothing can be proved."""
    if look.trouble is not None:
        return int(min(REPLAY_BACKOFF_MAX_MS, 1_000 * 2 ** min(task.attempts, 10)))
    for due in REPLAY_ATTEMPTS_MS:
        if task.age_ms < due:
            return due - task.age_ms
    return REPLAY_ATTEMPTS_MS[0]


async def _look(buffers: Buffers, stream: StreamKey, rest: Ranges, now_ms: int) -> Look:
    """Read what the buffer holds of these numbers."""
    if not rest:
        return Look({})
    spans = rest if len(rest) <= SINGLE_RANGES_MAX else ((rest[0][0], rest[-1][1]),)
    found: dict[int, Entry] = {}
    try:
        for first, last in spans:
            at = first
            while at <= last:
                meta, members = await buffers.read(
                    stream.tenant_id, stream.numbering, (at, last), REPLAY_SLICE_ENTRIES
                )
                if meta.epoch is None or meta.entries == 0:
                    return Look({}, "the buffer is empty" if meta.epoch is not None else "there is no buffer")
                if meta.epoch != stream.epoch:
                    return Look({}, f"the buffer is of epoch {meta.epoch}")
                highest = _take(members, stream, found, (rest, now_ms))
                if len(members) < REPLAY_SLICE_ENTRIES or highest < at:
                    break
                at = highest + 1
    except Transient:
        return Look(found, "the buffer is out of reach")
    return Look(found)


def _take(
    members: list[bytes], stream: StreamKey, found: dict[int, Entry], wanted: tuple[Ranges, int]
) -> int:
    """Add valid members of this epoch that are wanted; the highest number seen."""
    rest, now_ms = wanted
    highest = 0
    for member in members:
        try:
            epoch, entry = parse_member(member, now_ms)
        except TraceHubError:
            continue  # it stays with the producer, whose own sending will be told why
        highest = max(highest, entry.seq)
        if epoch == stream.epoch and r.contains(rest, entry.seq):
            found.setdefault(entry.seq, entry)
    return highest


def _requests(
    stream: StreamKey, task: ReplayTask, look: Look, made: tuple[int, Callable[[int], bytes]]
) -> list[Request]:
    now_ms, random = made
    numbers = sorted(look.entries)
    requests: list[Request] = []
    for at in range(0, len(numbers), REPLAY_SLICE_ENTRIES):
        part = numbers[at : at + REPLAY_SLICE_ENTRIES]
        requests.append(
            Request(
                stream, "ingest", stream.numbering, f"replay-{task.id}",
                id_base(now_ms, random(ID_BASE_RANDOM_BYTES)), r.of_numbers(part),
                [look.entries[n] for n in part],
            )
        )  # fmt: skip
    return requests
