"""The numbers that this backend gives to entries that come without one: a stream per door (log-service.md §1.1).

The epoch is the backend's incarnation: its start in milliseconds and some random bits, so that two backends, or two
lives of one, never share a stream. The streams belong to the default tenant; the entries say whose they are.
"""

from __future__ import annotations

from collections import Counter

from tracehub.protocol.messages import StreamKey
from tracehub.storage.redis.keys import ZERO_TENANT

RANDOM_BITS = 11  # with 42 bits of milliseconds below 2^53, the highest epoch


class Numbering:
    """`random`: two bytes."""

    def __init__(self, now_ms: int, random: bytes) -> None:
        bits = int.from_bytes(random, "big") & (1 << RANDOM_BITS) - 1
        self._epoch = now_ms << RANDOM_BITS | bits
        self._given: Counter[str] = Counter()

    def stream(self, door: str) -> StreamKey:
        """The numbering of a door."""
        return StreamKey(ZERO_TENANT, f"@{door}", self._epoch)

    def take(self, door: str, count: int) -> int:
        """The first of so many numbers that nobody else gets."""
        first = self._given[door] + 1
        self._given[door] += count
        return first
