"""The test's own list of what the server promised, kept beside everything that the server keeps."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Stream = tuple[str, int]  # service, epoch


@dataclass
class Told:
    """Per stream the greatest ackTill that an ACK named, every number that an ACK called stored, and lies."""

    ack_till: dict[Stream, int] = field(default_factory=dict)
    stored: dict[Stream, set[int]] = field(default_factory=dict)
    batches: int = 0
    wrong: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def floor(self, stream: Stream) -> int:
        """What an ACK that is asked for from now on must at least say."""
        with self._lock:
            return self.ack_till.get(stream, 0)

    def hear(self, stream: Stream, reply: dict[str, Any], *, floor: int, numbers: Iterable[int] = ()) -> None:
        """A 200 of /ingest. `floor`: what had been told when its request was sent."""
        till = int(reply["ackTill"])
        with self._lock:
            self.batches += 1
            if till < floor:
                self.wrong.append(f"{stream}: ackTill fell from {floor} to {till}")
            if reply["conflicts"]:
                self.wrong.append(f"{stream}: {reply['conflicts']} conflicts")
            if till > reply["highestSeen"]:
                self.wrong.append(f"{stream}: ackTill {till} is above highestSeen {reply['highestSeen']}")
            self.ack_till[stream] = max(self.ack_till.get(stream, 0), till)
            self.stored.setdefault(stream, set()).update(numbers)
