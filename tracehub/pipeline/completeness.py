"""What the ledger knows about an answer: whether entries that belong into it are missing, lost or on their way.

A gap has no time of its own; it lies between the entries beside it. So it concerns every window that its
neighbours' times touch, and one without a neighbour on a side concerns everything on that side. Of a numbering with
more than GAPS_MAX gaps or losses the others are counted wherever they lie: that errs to the safe side.
What is in flight at the server-numbered doors is no part of this: nobody was told yet that it is stored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from tracehub.protocol import ranges as r
from tracehub.protocol.messages import Mark, StreamKey
from tracehub.protocol.ranges import EMPTY, Ranges

GAPS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Hole:
    """Numbers without an entry, and the times (Unix ms) of the entries before and after, as far as there are any."""

    service: str
    count: int
    lost: bool
    after_ms: int | None
    before_ms: int | None

    def touches(self, start_ms: int | None, end_ms: int | None) -> bool:
        """Whether what is missing may belong into the window; its bounds are inclusive. Neighbours may come in any
        order: times are the producer's."""
        times = [ms for ms in (self.after_ms, self.before_ms) if ms is not None]
        first = min(times) if len(times) == 2 or (self.before_ms is None and times) else None
        last = max(times) if len(times) == 2 or (self.after_ms is None and times) else None
        return not (
            (end_ms is not None and first is not None and first > end_ms)
            or (start_ms is not None and last is not None and last < start_ms)
        )


@dataclass(slots=True)
class ServiceHoles:
    """One service of an answer."""

    missing: int = 0
    lost: int = 0
    in_flight: int = 0


@dataclass(slots=True)
class Completeness:
    """By service; only those that lack something. `seen`: whether what is in flight could be asked."""

    seen: bool = True
    services: dict[str, ServiceHoles] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        """As answers carry it."""
        kinds = {"missing": "missing", "lost": "lost", "inFlight": "in_flight"}
        sums: dict[str, int | None] = {
            name: sum(getattr(s, kind) for s in self.services.values()) for name, kind in kinds.items()
        }
        services = [
            {"service": name, **{shown: getattr(holes, kind) for shown, kind in kinds.items()}}
            for name, holes in sorted(self.services.items())
        ]
        if not self.seen:
            sums["inFlight"] = None
        return {"complete": self.seen and not any(sums.values()), **sums, "services": services}


class HolesLedger(Protocol):
    """What the ledger is asked."""

    async def holes(
        self, tenant_id: str | None, services: Collection[str] | None, in_flight: dict[StreamKey, Ranges]
    ) -> list[Hole]:
        """All holes of a tenant's services (None: of all); numbers in flight are none."""


async def completeness(
    ledger: HolesLedger,
    marks: Iterable[Mark] | None,
    tenant_id: str | None,
    *,
    services: Collection[str] | None = None,
    window_ms: tuple[int | None, int | None] = (None, None),
) -> Completeness:
    """Of a tenant's services (None: all of them, of both) in a window. `marks` were read before; None: they could not
    be. Raises Transient."""
    found = Completeness(seen=marks is not None)
    flying: dict[StreamKey, Ranges] = {}
    for mark in marks or ():
        for marked in mark.streams:
            stream = marked.stream
            if tenant_id not in {None, stream.tenant_id} or stream.by_server:
                continue
            if services is not None and stream.numbering not in services:
                continue
            flying[stream] = r.union(flying.get(stream, EMPTY), marked.ranges)
    for stream, numbers in flying.items():
        found.services.setdefault(stream.numbering, ServiceHoles()).in_flight += r.count(numbers)
    for hole in await ledger.holes(tenant_id, services, flying):
        if hole.touches(*window_ms):
            kept = found.services.setdefault(hole.service, ServiceHoles())
            if hole.lost:
                kept.lost += hole.count
            else:
                kept.missing += hole.count
    return found
