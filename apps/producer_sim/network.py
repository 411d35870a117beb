"""A transport that delivers now and then a number late and a batch twice, as real networks do.

It wraps the producer's own transport, so nothing of the producer is bent: what is held back is still in the
buffer, and were it lost here, the gap would be named and made good like any other.
"""

from __future__ import annotations

import json
import random
import threading
from dataclasses import dataclass
from typing import Any

from tracehub_sdk.transport import Transport
from tracehub_sdk.wire import Request, Response


@dataclass(frozen=True, slots=True)
class Disturbance:
    """How often (per batch) and how long."""

    late_chance: float = 0.02
    late_s: tuple[float, float] = (0.1, 1.2)
    duplicate_chance: float = 0.02


class UnrulyTransport:
    """Wraps a transport; `seed` makes its choices repeatable for a given order of requests."""

    def __init__(self, inner: Transport, seed: int, disturbance: Disturbance = Disturbance()) -> None:
        self._inner = inner
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._how = disturbance
        self._lock = threading.Lock()
        self._timers: set[threading.Timer] = set()
        self._closed = False
        self.late = 0
        self.duplicates = 0

    def exchange(self, request: Request, timeout_s: float) -> Response | None:
        """See `Transport`."""
        if request.path != "/ingest":
            return self._inner.exchange(request, timeout_s)
        with self._lock:
            late = self._random.random() < self._how.late_chance
            twice = self._random.random() < self._how.duplicate_chance
            pick, wait_s = self._random.random(), self._random.uniform(*self._how.late_s)
        if late and (parts := hold_back(request, pick)):
            request, held = parts
            self._send_later(held, timeout_s, wait_s)
        if twice:
            self.duplicates += 1
            self._inner.exchange(request, timeout_s)
        return self._inner.exchange(request, timeout_s)

    def _send_later(self, held: Request, timeout_s: float, wait_s: float) -> None:
        def deliver() -> None:
            self._inner.exchange(held, timeout_s)
            with self._lock:
                self._timers.discard(timer)

        timer = threading.Timer(wait_s, deliver)
        timer.daemon = True
        with self._lock:
            if self._closed:
                return
            self.late += 1
            self._timers.add(timer)
        timer.start()

    def close(self) -> None:
        """What is still held back stays with the producer's buffer."""
        with self._lock:
            self._closed = True
            timers = list(self._timers)
        for timer in timers:
            timer.cancel()
        self._inner.close()


def hold_back(request: Request, pick: float) -> tuple[Request, Request] | None:
    """The request without one of its entries, and one with only that; None when it has fewer than two."""
    document: dict[str, Any] = json.loads(request.body)
    batch = document.get("batch") or []
    if len(batch) < 2:
        return None
    index = int(pick * len(batch))
    rest = {**document, "batch": batch[:index] + batch[index + 1 :]}
    held = {**document, "batch": [batch[index]]}
    return _with(request, rest), _with(request, held)


def _with(request: Request, document: dict[str, Any]) -> Request:
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return Request(request.method, request.path, body)
