"""What waits for one client of a stream: bounded; a slow client loses its oldest frames and is told how many."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Generic, TypeVar

FRAMES_MAX: Final = 1_000
FRAME_BYTES_MAX: Final = 4 * 1024 * 1024
T = TypeVar("T")


class Backlog(Generic[T]):
    """Frames of any kind with their sizes in bytes; `news` is set while there is something to take."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self._frames: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._skipped = 0

    def put(self, frame: T, size: int) -> None:
        """One more; beyond the bounds the oldest go."""
        self._frames.append((frame, size))
        self._bytes += size
        while len(self._frames) > FRAMES_MAX or (self._bytes > FRAME_BYTES_MAX and len(self._frames) > 1):
            self._bytes -= self._frames.popleft()[1]
            self._skipped += 1
        self.news.set()

    def skip(self, count: int) -> None:
        """Frames that are not even offered."""
        self._skipped += count
        self.news.set()

    def take(self) -> tuple[int, list[T]]:
        """How many were left out before these, and these."""
        skipped, frames = self._skipped, [frame for frame, _ in self._frames]
        self._skipped = self._bytes = 0
        self._frames.clear()
        self.news.clear()
        return skipped, frames
