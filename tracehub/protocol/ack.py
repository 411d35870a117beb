"""What the ledger says about one stream: how far it is acknowledged, and what is missing.

Guarantee (ingest.md §1): `ack_till = lower({[1,inf)} - received - lost) - 1`. Invariants:
1. ack_till never passes a number that is neither received nor lost.
2. Adding to `received` or moving numbers between `received` and `lost` never lowers it.
3. A number in flight is neither acknowledged nor missing.
Postgres computes the same from its multiranges (`schema.sql`: ack_till, missing_ranges); this is the model
that memory adapters and the simulation run, and one conformance suite compares both.
Not here: who decides that a number is lost (pipeline/signoff.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from tracehub.protocol import ranges as r
from tracehub.protocol.limits import MISSING_NAMED_MAX
from tracehub.protocol.ranges import Ranges


def ack_till(received: Ranges, lost: Ranges) -> int:
    """The highest number up to which all are received or lost; 0 when 1 is neither."""
    settled = r.union(received, lost)
    return settled[0][1] if settled and settled[0][0] <= 1 else 0


def missing(received: Ranges, lost: Ranges, in_flight: Ranges, highest: int) -> Ranges:
    """Numbers 1..highest that are neither received, nor lost, nor in flight."""
    if highest < 1:
        return r.EMPTY
    return r.subtract(((1, highest),), r.union(received, lost, in_flight))


@dataclass(frozen=True, slots=True)
class Gaps:
    """What a reply names: at most MISSING_NAMED_MAX numbers and ranges, and the exact count."""

    ranges: Ranges = r.EMPTY
    count: int = 0

    @classmethod
    def of(cls, missing_ranges: Ranges) -> Gaps:
        """Cut to what a reply may name, count the rest."""
        return cls(missing_ranges[:MISSING_NAMED_MAX], r.count(missing_ranges))

    @property
    def numbers(self) -> list[int]:
        """The lowest missing numbers, ascending."""
        return r.first_numbers(self.ranges, MISSING_NAMED_MAX)


@dataclass(frozen=True, slots=True)
class StreamState:
    """One stream as the ledger and the marks show it.

    `highest_seen` = max(ledger, marks); `open_replays`: numbers newly put into replay requests by the commit
    that made this state.
    """

    stream_id: int
    ack_till: int
    highest_seen: int
    gaps: Gaps = Gaps()
    replay_queued: int = 0
    lost_count: int = 0
    in_flight: int = 0

    @property
    def status(self) -> str:
        """`partial` iff something is missing."""
        return "partial" if self.gaps.count else "ok"
