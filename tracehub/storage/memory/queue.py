"""The queue's Redis in memory (ports.Queue): jobs with leases, marks, receipts. `forget` wipes it whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracehub.protocol.errors import Overloaded
from tracehub.protocol.messages import Job, Mark, Receipt, StreamKey
from tracehub.storage.memory.ledger import Pause, no_pause
from tracehub.storage.ports import Told

_NOTHING = Told()


@dataclass(slots=True)
class _Queued:
    job: Job
    leased_until_ms: int = 0


@dataclass(slots=True)
class MemoryQueue:
    """Best effort like the real one: receipts and live messages are only heard by who listens."""

    pause: Pause = no_pause
    now_ms: Callable[[], int] = lambda: 0
    entries_max: int = 200_000
    jobs: dict[str, _Queued] = field(default_factory=dict)
    inflight: dict[str, Mark] = field(default_factory=dict)
    replays: dict[StreamKey, int] = field(default_factory=dict)  # when the replay job is due
    on_receipt: Callable[[str, Receipt], None] = lambda backend, receipt: None
    on_event: Callable[[str, Mapping[str, Any]], None] = lambda event, data: None

    async def enqueue(self, job: Job, mark: Mark) -> None:
        """A job and its mark, in one step. Raises Overloaded."""
        await self.pause()
        waiting = sum(m.entries for m in self.inflight.values())
        if waiting and waiting + mark.entries > self.entries_max:
            raise Overloaded
        self.jobs[job.id] = _Queued(job)
        self.inflight[job.id] = mark
        await self.pause()

    def claim(self, lease_ms: int) -> Job | None:
        """Lease the oldest job that nobody holds."""
        now = self.now_ms()
        for queued in self.jobs.values():
            if queued.leased_until_ms <= now:
                queued.leased_until_ms = now + lease_ms
                return queued.job
        return None

    def finish(self, job_id: str) -> None:
        """The job is done; its mark was settled before."""
        self.jobs.pop(job_id, None)

    def forget(self) -> None:
        """Everything is gone, as after a restart without a disk."""
        self.jobs.clear()
        self.inflight.clear()
        self.replays.clear()

    def sweep(self) -> int:
        """Marks without a job go away."""
        orphans = [job_id for job_id in self.inflight if job_id not in self.jobs]
        for job_id in orphans:
            del self.inflight[job_id]
        return len(orphans)

    async def marks(self) -> Mapping[str, Mark]:
        """See ports.Queue."""
        await self.pause()
        return dict(self.inflight)

    async def is_marked(self, job_id: str) -> bool:
        """Whether a job still waits or runs."""
        await self.pause()
        return job_id in self.inflight

    async def settle(self, receipts: Sequence[tuple[Job, Receipt]], told: Told = _NOTHING) -> None:
        """See ports.Queue."""
        await self.pause()
        for job, receipt in receipts:
            self.inflight.pop(job.id, None)
            self.on_receipt(job.backend, receipt)

    async def enqueue_replay(self, stream: StreamKey, delay_ms: int) -> None:
        """See ports.Queue."""
        await self.pause()
        self.replays.setdefault(stream, self.now_ms() + delay_ms)

    async def publish(self, event: str, data: Mapping[str, Any]) -> None:
        """See ports.Queue."""
        self.on_event(event, data)
