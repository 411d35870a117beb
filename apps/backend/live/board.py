"""What this backend knows of the present: rates, latencies, what viewers were shown. Fed by its doors and by
the live bus; counts since start or `reset`. No I/O here; snapshot.py adds what the stores know.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from tracehub.runtime.clock import Clock

WINDOW_S = 10
LATENCIES_MAX = 4_096


class Rate:
    """Events per second over the last WINDOW_S full seconds."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque()

    def add(self, second: int, count: int) -> None:
        """`count` events in this second."""
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1] = (second, self._seconds[-1][1] + count)
        else:
            self._seconds.append((second, count))
        while self._seconds and self._seconds[0][0] < second - WINDOW_S:
            self._seconds.popleft()

    def mean(self, second: int) -> float:
        """The mean of the full seconds of the window."""
        return self.total(second) / WINDOW_S

    def total(self, second: int) -> int:
        """How many there were in the window."""
        return sum(count for at, count in self._seconds if second - WINDOW_S <= at < second)


@dataclass(slots=True)
class ServiceBoard:
    """One service of one tenant."""

    stored: Rate = field(default_factory=Rate)
    errors: Rate = field(default_factory=Rate)


class Board:
    """Counters of one backend process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """All counters to zero."""
        self.received = Rate()
        self.stored = Rate()
        self.errors = Rate()
        self.services: dict[tuple[str, str], ServiceBoard] = {}
        self.totals: Counter[str] = Counter()
        self._latencies: deque[float] = deque(maxlen=LATENCIES_MAX)

    @property
    def second(self) -> int:
        """The present second."""
        return self._clock() // 1000

    def on_received(self, entries: int) -> None:
        """A door took in so many entries."""
        self.received.add(self.second, entries)
        self.totals["received"] += entries

    def on_ack(self, seconds: float) -> None:
        """A reply went out after so long."""
        self._latencies.append(seconds * 1000)

    def on_stored(self, data: dict[str, object]) -> None:
        """A `stored` message of the live bus."""
        second = self.second
        services = data["services"]
        assert isinstance(services, list)
        for tenant_id, name, count, errors in services:
            service = self.services.setdefault((tenant_id, name), ServiceBoard())
            service.stored.add(second, count)
            service.errors.add(second, errors)
            self.errors.add(second, errors)
        stored = int(str(data["stored"]))
        self.stored.add(second, stored)
        self.totals["stored"] += stored

    def latency(self, quantile: float) -> float | None:
        """A quantile of the last ACK latencies in ms; None before the first."""
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        return round(ordered[min(len(ordered) - 1, int(quantile * len(ordered)))], 2)

    def error_rate(self) -> float:
        """The share of errors among what was stored in the window, 0..1."""
        second = self.second
        stored = self.stored.total(second)
        return round(self.errors.total(second) / stored, 4) if stored else 0.0
