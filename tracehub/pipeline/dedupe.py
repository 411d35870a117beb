"""Which entries of a group are new, which are duplicates, which conflict (ingest.md §2). Pure.

Invariants: (1) accepted + duplicates + conflicts = entries, for every request; (2) of equal numbers the first
in arrival order stands; (3) an entry whose own id is stored already counts as accepted, because the same job
ran before: so a receipt is the same however often its job runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tracehub.protocol import ranges as r
from tracehub.protocol.messages import Entry, Request, StreamKey, id_of
from tracehub.protocol.ranges import EMPTY, Ranges
from tracehub.storage.ports import StoredRow


@dataclass(slots=True)
class Verdict:
    """What becomes of one request's entries. `left_out`: their places in the batch."""

    accepted: int
    duplicates: int = 0
    conflicts: list[int] = field(default_factory=list)
    left_out: set[int] = field(default_factory=set)

    def leave_out(self, index: int, *, duplicate: bool) -> None:
        """An entry that was taken for new is a duplicate, or a conflict."""
        self.accepted -= 1
        self.left_out.add(index)
        if duplicate:
            self.duplicates += 1
        else:
            self.conflicts.append(index)


def suspects(requests: Sequence[Request], known: Mapping[StreamKey, Ranges]) -> list[Ranges]:
    """Per request, the numbers that are received already or stand in an earlier request of the group."""
    seen: dict[StreamKey, Ranges] = {}
    found: list[Ranges] = []
    for request in requests:
        earlier = seen.get(request.stream, EMPTY)
        overlap = r.union(
            r.intersect(request.ranges, known.get(request.stream, EMPTY)),
            r.intersect(request.ranges, earlier),
        )
        found.append(overlap)
        seen[request.stream] = r.union(earlier, request.ranges)
    return found


def judge(
    requests: Sequence[Request],
    suspected: Sequence[Ranges],
    stored: Mapping[StreamKey, Mapping[int, StoredRow]],
    known: Mapping[StreamKey, Ranges],
) -> list[Verdict]:
    """A verdict per request. `stored` holds the rows of known numbers, as far as they still exist."""
    firsts: dict[StreamKey, dict[int, StoredRow]] = {}
    verdicts: list[Verdict] = []
    contested = {request.stream for request, numbers in zip(requests, suspected, strict=True) if numbers}
    for request, overlap in zip(requests, suspected, strict=True):
        clean = not overlap and r.count(request.ranges) == len(request.entries)
        if clean and request.stream not in contested:
            verdicts.append(Verdict(len(request.entries)))
            continue
        first = firsts.setdefault(request.stream, dict(stored.get(request.stream, {})))
        verdicts.append(_judge_one(request, first, known.get(request.stream, EMPTY)))
    return verdicts


def _judge_one(request: Request, first: dict[int, StoredRow], known: Ranges) -> Verdict:
    verdict = Verdict(0)
    for index, entry in enumerate(request.entries):
        own_id = id_of(request, index)
        standing = first.get(entry.seq)
        if standing is None:
            if r.contains(known, entry.seq):
                verdict.duplicates += 1  # its row has expired
                verdict.left_out.add(index)
            else:
                first[entry.seq] = StoredRow(own_id, entry.level, entry.message, entry.ts_ms)
                verdict.accepted += 1
            continue
        verdict.left_out.add(index)
        if standing.id == own_id:
            verdict.accepted += 1
        elif same(entry, standing):
            verdict.duplicates += 1
        else:
            verdict.conflicts.append(index)
    return verdict


def same(entry: Entry, standing: StoredRow) -> bool:
    """Same level, message and, only where the resend carries one, time."""
    return (
        entry.message == standing.message
        and entry.level == standing.level
        and (not entry.ts_given or entry.ts_ms == standing.ts_ms)
    )
