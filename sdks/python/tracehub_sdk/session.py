"""What a window keeps: its limits and counts, and the session with one numbering of one buffer."""

from __future__ import annotations

from dataclasses import dataclass, field

from tracehub_sdk.buffer import Lost
from tracehub_sdk.messages import Probe
from tracehub_sdk.ranges import Range


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in milliseconds."""

    batch_entries_max: int = 500
    lost_ranges_max: int = 500
    linger_ms: float = 50
    flights_max: int = 4
    timeout_ms: float = 12_000  # above the server's ack_timeout (5 s) and its fault delay_ack (3 s more)
    timeout_max_ms: float = 60_000
    backoff_ms: float = 100
    backoff_max_ms: float = 5_000
    probe_ms: float = 1_000
    probe_max_ms: float = 15_000
    resend_ms: float = 1_000  # a number named as missing again and again is sent this often


@dataclass(frozen=True, slots=True)
class Work:
    """Numbers to send, at most `cap` of them in one request."""

    first: int
    last: int
    cap: int


@dataclass(frozen=True, slots=True)
class Flight:
    """A request that is out."""

    seqs: tuple[int, ...]
    lost: tuple[Lost, ...]
    deadline_ms: float


@dataclass(slots=True)
class Counts:
    """Totals since the start, for `stats()`."""

    sent: int = 0
    resent: int = 0
    rejected: int = 0
    conflicts: int = 0
    renumbered: int = 0
    refused: int = 0
    failed: int = 0
    lost_told: int = 0


@dataclass(slots=True)
class Session:
    """What is forgotten when the numbering changes or the buffer was out of reach."""

    checked: bool = False
    renumbering: bool = False  # a Renumber is out
    probe: Probe | None = None  # a Probe is out
    trim_asked: int = 0
    sent_till: int = 0  # numbers above were never asked for in this session
    known_till: int = 0  # the server had seen up to here before this session sent anything
    ack_till: int = 0
    todo: list[Work] = field(default_factory=list)
    loading: dict[int, Work] = field(default_factory=dict)
    flights: dict[int, Flight] = field(default_factory=dict)
    resent_ms: dict[int, float] = field(default_factory=dict)

    def add(self, work: Work) -> None:
        """Put work in its place: the lowest numbers go first."""
        if work.first <= work.last:
            self.todo.append(work)
            self.todo.sort(key=lambda item: item.first)

    def under_way(self) -> list[Range]:
        """Numbers that are to do, being loaded or in flight."""
        ranges = [(work.first, work.last) for work in (*self.todo, *self.loading.values())]
        for flight in self.flights.values():
            ranges += [(seq, seq) for seq in flight.seqs]
        return ranges

    def lowest_outstanding(self) -> int:
        """The lowest of these numbers; `sent_till` + 1 when there is none."""
        lowest = [work.first for work in (*self.todo, *self.loading.values())]
        lowest += [flight.seqs[0] for flight in self.flights.values() if flight.seqs]
        return min(lowest, default=self.sent_till + 1)
