"""When the next group of requests leaves for the queue, and how large it is. Pure policy.

Two jobs of a backend may be without receipt. While none is, a request leaves at once: an idle system adds no
wait. While one is, the next leaves when it is as large as that one, or has waited GROUP_LINGER_MS; each takes
at most half of what is under way. So two jobs of like size keep two workers busy, and a crowd of small requests
does not turn into a crowd of small jobs. A job whose receipt is overdue holds nobody back.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tracehub.protocol.limits import GROUP_JOBS_MAX, GROUP_LINGER_MS, GROUP_WAIT_MS


@dataclass(frozen=True, slots=True)
class Unreceipted:
    """A job that is out: when it was sent (seconds), how many requests it holds."""

    sent_s: float
    requests: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Send so many requests now, or (0) look again after `wait_s`."""

    send: int
    wait_s: float = 0.0


def decide(now_s: float, waiting: int, oldest_s: float, out: Collection[Unreceipted]) -> Decision:
    """What to do with `waiting` requests (at least one), of which the oldest came at `oldest_s`."""
    timely = [job for job in out if now_s - job.sent_s < GROUP_WAIT_MS / 1000]
    if len(timely) >= GROUP_JOBS_MAX:
        return Decision(0, min(job.sent_s for job in timely) + GROUP_WAIT_MS / 1000 - now_s)
    under_way = sum(job.requests for job in timely)
    lingered_s = now_s - oldest_s
    if waiting < under_way and lingered_s < GROUP_LINGER_MS / 1000:
        return Decision(0, GROUP_LINGER_MS / 1000 - lingered_s)
    return Decision(min(waiting, -(-(waiting + under_way) // GROUP_JOBS_MAX)))  # rounded up: at least one
