"""What this backend knows of the present: rates, latencies, what viewers were shown. Fed by its doors and by
the live bus; counts since start or `reset`. No I/O here; snapshot.py adds what the stores know.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TypeVar

from apps.backend.live.view import View
from tracehub.runtime.clock import Clock

WINDOW_S = 10
LATENCIES_MAX = 4_096
BOARDS_MAX = 20_000  # services and tenants; beyond it those go that are silent

K = TypeVar("K", bound=Hashable)


class Rate:
    """Events per second over the last WINDOW_S full seconds."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque()

    def add(self, second: int, count: int) -> None:
        """`count` events in this second."""
        seconds = self._seconds
        if seconds and seconds[-1][0] == second:
            seconds[-1] = (second, seconds[-1][1] + count)
            return
        seconds.append((second, count))
        while seconds[0][0] < second - WINDOW_S:
            seconds.popleft()

    def mean(self, second: int) -> float:
        """The mean of the full seconds of the window."""
        return self.total(second) / WINDOW_S

    def total(self, second: int) -> int:
        """How many there were in the window."""
        return sum(count for at, count in self._seconds if second - WINDOW_S <= at < second)


@dataclass(slots=True)
class Tallies:
    """What one service, one tenant, or all of them did."""

    received: Rate = field(default_factory=Rate)
    stored: Rate = field(default_factory=Rate)
    errors: Rate = field(default_factory=Rate)
    received_total: int = 0
    shown: int = 0
    skipped: int = 0  # stored, but left out of the live view

    def error_rate(self, second: int) -> float:
        """The share of errors among what was stored in the window, 0..1."""
        stored = self.stored.total(second)
        return round(self.errors.total(second) / stored, 4) if stored else 0.0

    def is_silent(self, second: int) -> bool:
        """Nothing happened in the window."""
        return not (self.received.total(second) or self.stored.total(second))


class Board:
    """Counters of one backend process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.clients: Counter[str | None] = Counter()  # viewers by tenant; None: of all tenants
        self.reset()

    def reset(self) -> None:
        """All counters to zero."""
        self._all = Tallies()
        self.tenants: dict[str, Tallies] = {}
        self._services: dict[tuple[str, str], Tallies] = {}
        self._latencies: deque[float] = deque(maxlen=LATENCIES_MAX)

    @property
    def second(self) -> int:
        """The present second."""
        return self._clock() // 1000

    def of(self, view: View) -> Tallies:
        """What is within a view; of a service it takes a tenant, too."""
        if view.tenant_id is None:
            return self._all
        if view.service is None:
            return self.tenants.get(view.tenant_id) or Tallies()
        return self.of_service(view.tenant_id, view.service)

    def of_service(self, tenant_id: str, service: str) -> Tallies:
        """One service of one tenant."""
        return self._services.get((tenant_id, service)) or Tallies()

    def _touched(self, tenant_id: str, service: str) -> tuple[Tallies, Tallies, Tallies]:
        return (
            self._all,
            self.tenants.get(tenant_id) or _made(self.tenants, tenant_id, self.second),
            self._services.get((tenant_id, service))
            or _made(self._services, (tenant_id, service), self.second),
        )

    def on_received(self, tenant_id: str, service: str, entries: int) -> None:
        """A door took in so many entries."""
        second = self.second
        for tallies in self._touched(tenant_id, service):
            tallies.received.add(second, entries)
            tallies.received_total += entries

    def on_ack(self, seconds: float) -> None:
        """A reply went out after so long."""
        self._latencies.append(seconds * 1000)

    def on_stored(self, data: dict[str, object]) -> None:
        """A `stored` message of the live bus."""
        second = self.second
        services = data["services"]
        assert isinstance(services, list)
        for tenant_id, service, count, errors in services:
            for tallies in self._touched(tenant_id, service):
                tallies.stored.add(second, count)
                tallies.errors.add(second, errors)

    def on_left_out(self, tenant_id: str, service: str, entries: int) -> None:
        """So many were stored while somebody looked; of each that is shown `on_shown` says so."""
        for tallies in self._touched(tenant_id, service):
            tallies.skipped += entries

    def on_shown(self, tenant_id: str, service: str) -> None:
        """One of them is shown to viewers, and so it is not left out."""
        for tallies in self._touched(tenant_id, service):
            tallies.shown += 1
            tallies.skipped -= 1

    def latency(self, quantile: float) -> float | None:
        """A quantile of the last ACK latencies in ms; None before the first."""
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        return round(ordered[min(len(ordered) - 1, int(quantile * len(ordered)))], 2)


def _made(boards: dict[K, Tallies], key: K, second: int) -> Tallies:
    """A new board; names are made up by clients, so their number has a bound."""
    if len(boards) >= BOARDS_MAX:
        for silent in [name for name, board in boards.items() if board.is_silent(second)]:
            del boards[silent]
    if len(boards) >= BOARDS_MAX:
        boards.clear()
    boards[key] = Tallies()
    return boards[key]
