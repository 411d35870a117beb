"""What the threaded and the asyncio sender share: window actions as buffer commands, answers as events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tracehub_sdk import buffer, messages

LEASE_RENEW_MS = buffer.LEASE_MS / 5
PEEK_MIN_MS = 10.0  # own appends are looked at no more often than this
PEEK_BUSY_MS = 50.0  # appends of other processes are seen within this while there is traffic,
PEEK_IDLE_MS = 200.0  # and within this when there was none for `IDLE_AFTER_MS`
IDLE_AFTER_MS = 2_000.0
SETTLE_RETRY_MS = 100.0  # Redis was down: try again this often


def as_command(action: messages.Action, owner: str, wall_ms: int) -> buffer.Command[Any] | None:
    """The buffer command of an action; None for actions that are none."""
    match action:
        case messages.Load(_, first, last, limit):
            return buffer.Load(first, last, limit)
        case messages.Trim(epoch, ack_till):
            return buffer.Trim(epoch, ack_till, owner)
        case messages.Reject(epoch, seq, reason):
            return buffer.Reject(epoch, seq, reason)
        case messages.Renumber(epoch, above, floor):
            return buffer.Renumber(epoch, above, floor, wall_ms, owner)
        case messages.Told(lost):
            return buffer.ForgetLost(lost)
    return None


def as_event(action: messages.Action, answer: Any) -> messages.Event | None:
    """What the answer to `as_command(action)` tells the window."""
    match action:
        case messages.Load(load_id):
            return messages.Loaded(load_id, answer)
        case messages.Renumber():
            return messages.Renumbered(answer)
        case messages.Trim() if not answer:
            # Somebody else sends, or the numbering changed under us: start again from the buffer.
            return messages.BufferLost()
    return None


def unanswered(job: messages.Send | messages.Probe) -> messages.Event:
    """The event of a request that came to nothing."""
    if isinstance(job, messages.Probe):
        return messages.ProbeFailed(job.probe_id)
    return messages.Failed(job.send_id)


@dataclass(slots=True)
class Pace:
    """When the sender looks at its buffer and renews its lease. Times are monotonic milliseconds."""

    peeked_ms: float = -1e18
    active_ms: float = -1e18
    leased_ms: float = -1e18
    dirty: bool = True

    def lease_due(self, now_ms: float) -> bool:
        """Time to take or renew the lease."""
        return now_ms >= self.leased_ms + LEASE_RENEW_MS

    def lease_over(self, now_ms: float) -> bool:
        """The lease may have gone to somebody else: nothing may be sent."""
        return now_ms >= self.leased_ms + buffer.LEASE_MS

    def peek_at_ms(self, now_ms: float) -> float:
        """When the buffer is to be looked at next."""
        busy = now_ms < self.active_ms + IDLE_AFTER_MS
        return self.peeked_ms + (PEEK_MIN_MS if self.dirty else PEEK_BUSY_MS if busy else PEEK_IDLE_MS)
