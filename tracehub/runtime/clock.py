"""The only clocks: wall time in milliseconds for what is written down, monotonic seconds for waiting."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

Clock = Callable[[], int]
Random = Callable[[int], bytes]

random_bytes: Random = os.urandom
monotonic_s = time.monotonic


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000
