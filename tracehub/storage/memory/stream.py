"""One stream of the ledger in memory: what a row of ack_state, its losses and its replay requests hold."""

from __future__ import annotations

from dataclasses import dataclass, field

from tracehub.protocol import ranges as r
from tracehub.protocol.ack import Gaps, StreamState, ack_till, missing
from tracehub.protocol.messages import StreamKey
from tracehub.protocol.ranges import EMPTY, Ranges
from tracehub.storage.ports import Change, CompletedReplay


@dataclass(frozen=True, slots=True)
class Loss:
    """A signed-off range."""

    ranges: Ranges
    reason: str
    by: str
    found: bool = False


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """One row of replay_requests."""

    id: int
    first: int
    last: int
    created_ms: int
    next_ms: int
    status: str = "pending"
    attempts: int = 0
    misses: int = 0
    found: int = 0
    inserted: int = 0
    error: str | None = None
    manual: bool = False

    @property
    def open(self) -> bool:
        """Pending or running."""
        return self.status in ("pending", "running")


@dataclass(slots=True)
class Stream:
    """Mutable; a transaction works on a copy."""

    key: StreamKey
    received: Ranges = EMPTY
    lost: Ranges = EMPTY
    void: Ranges = EMPTY
    start: int | None = None
    duplicates: int = 0
    conflicts: int = 0
    losses: list[Loss] = field(default_factory=list)
    replays: dict[int, ReplayRequest] = field(default_factory=dict)

    def copy(self) -> Stream:
        """Independent of this one; the values inside are immutable."""
        return Stream(
            self.key, self.received, self.lost, self.void, self.start, self.duplicates, self.conflicts,
            list(self.losses), dict(self.replays),
        )  # fmt: skip

    @property
    def highest(self) -> int:
        """The greatest number that is received or lost."""
        return max(r.highest(self.received), r.highest(self.lost))

    def missing(self, in_flight: Ranges) -> Ranges:
        """Gaps, not counting what is in flight; a numbering of the server has none."""
        if self.key.by_server:
            return EMPTY
        return self.unstored(in_flight)

    def unstored(self, in_flight: Ranges) -> Ranges:
        """Numbers below the highest that are neither received, nor lost, nor in flight."""
        return missing(self.received, self.lost, in_flight, max(self.highest, r.highest(in_flight)))

    def would_be_whole(self, fresh: Ranges, in_flight: Ranges) -> bool:
        """Whether nothing is missing once these numbers are received, and nobody asks for a replay."""
        after = self.copy()
        after.received = r.union(self.received, fresh)
        return not after.missing(in_flight) and not any(q.open for q in self.replays.values())

    def state(self, stream_id: int, in_flight: Ranges, queued: int = 0) -> StreamState:
        """As the ledger tells it."""
        return StreamState(
            stream_id,
            ack_till(self.received, self.lost),
            max(self.highest, r.highest(in_flight)),
            Gaps.of(self.missing(in_flight)),
            queued,
            r.count(self.lost),
        )

    def unresolved(self, ranges: Ranges, in_flight: Ranges) -> Ranges:
        """What of these is neither received, nor lost, nor in flight."""
        return r.subtract(ranges, r.union(self.received, self.lost, in_flight))

    def lose(self, ranges: Ranges, in_flight: Ranges, *, reason: str, by: str) -> int:
        """Sign off what is unresolved; how many numbers that is."""
        gone = self.unresolved(ranges, in_flight)
        if gone:
            self.lost = r.union(self.lost, gone)
            self.losses.append(Loss(gone, reason, by))
        return r.count(gone)

    def add(self, change: Change, in_flight: Ranges) -> None:
        """Everything that one store transaction changes."""
        spared = r.union(in_flight, change.fresh)
        if change.found:
            self.losses.append(Loss(change.found, "found", "store", found=True))
        for first, last, _ in change.lost:
            self.lose(((first, last),), spared, reason="producer", by="producer")
        if change.start is not None and change.start > 1:
            self.lose(((1, change.start - 1),), spared, reason="start", by="producer")
        if change.dead:
            self.losses.append(Loss(change.dead, "dead_letter", "worker"))
        self.received = r.union(self.received, change.fresh)
        self.void = r.union(r.subtract(self.void, change.fresh), change.void)
        self.lost = r.union(r.subtract(self.lost, change.fresh), change.dead)
        self.start = max((s for s in (self.start, change.start) if s is not None), default=None)
        self.duplicates += change.duplicates
        self.conflicts += change.conflicts

    def open_replays(self, in_flight: Ranges, next_id: int, times: tuple[int, int]) -> int:
        """Put uncovered gaps into replay requests; how many numbers. `times`: now, and when they are due."""
        covered = r.normalise((q.first, q.last) for q in self.replays.values() if q.open)
        uncovered = r.subtract(self.missing(in_flight), covered)
        for offset, (first, last) in enumerate(uncovered):
            self.replays[next_id + offset] = ReplayRequest(next_id + offset, first, last, *times)
        return r.count(uncovered)

    def complete_replays(self, stream_id: int, now_ms: int) -> list[CompletedReplay]:
        """Close open requests that have nothing left to do."""
        done: list[CompletedReplay] = []
        for q in [q for q in self.replays.values() if q.open]:
            if self.unresolved(((q.first, q.last),), EMPTY):
                continue
            whole = not r.subtract(((q.first, q.last),), self.received)
            self.replays[q.id] = ReplayRequest(
                q.id, q.first, q.last, q.created_ms, q.next_ms, "completed" if whole else "lost",
                q.attempts, q.misses, q.found, q.inserted, None, q.manual,
            )  # fmt: skip
            done.append(CompletedReplay(q.id, stream_id, q.first, q.last, q.inserted, now_ms - q.created_ms))
        return done
