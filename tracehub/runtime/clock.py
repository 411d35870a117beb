"""The only clocks: wall time in milliseconds for what is written down (nanoseconds for spans), monotonic seconds for
waiting. And the only randomness."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

Clock = Callable[[], int]
Random = Callable[[int], bytes]

monotonic_s = time.monotonic
POOL_BYTES = 4_096


class _Pool:
    """Random bytes of the operating system, fetched POOL_BYTES at a time: each request needs a few, and a system
    call for each costs more than the rest of an id. Not across a fork: there is none here."""

    def __init__(self) -> None:
        self._bytes = b""
        self._taken = 0

    def __call__(self, count: int) -> bytes:
        first, self._taken = self._taken, self._taken + count
        if self._taken > len(self._bytes):
            self._bytes = os.urandom(max(POOL_BYTES, count))
            first, self._taken = 0, count
        return self._bytes[first : self._taken]


random_bytes: Random = _Pool()


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def now_ns() -> int:
    """Unix nanoseconds."""
    return time.time_ns()
