"""Group commit over the stores in memory: what is committed is settled in the end, and one job's trouble is its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

import pytest

from apps.worker import committer as committers
from apps.worker.committer import Committer
from tests.eventually import eventually
from tests.making import NOW_MS, request, stream
from tracehub.pipeline.store import PartitionsPending
from tracehub.protocol.errors import Transient
from tracehub.protocol.limits import JOB_FORMAT
from tracehub.protocol.messages import Job, Receipt, StreamKey
from tracehub.storage.memory.ledger import MemoryLedger
from tracehub.storage.memory.queue import MemoryQueue
from tracehub.storage.ports import Told

LONG_AGO_MS = NOW_MS - 10**11


class Ledger(MemoryLedger):
    """Raises for the service "mistake"; has no partition for what is long ago."""

    async def resolve(self, streams: Sequence[StreamKey]) -> Mapping[StreamKey, int]:
        if any(key.numbering == "mistake" for key in streams):
            raise RuntimeError("a mistake")
        return await super().resolve(streams)

    async def ensure_partitions(self, times_ms: Sequence[int], most: int) -> bool:
        return LONG_AGO_MS not in times_ms


class Queue(MemoryQueue):
    """Cannot settle as long as it is `away`; keeps what was told."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.tried = 0
        self.tries: dict[str, int] = {}
        self.told: list[Told] = []

    async def settle(self, receipts: Sequence[tuple[Job, Receipt]], told: Told = Told()) -> None:  # noqa: B008
        self.tried += 1
        if self.away:
            raise Transient("away")
        await super().settle(receipts, told)
        self.told.append(told)

    async def count_try(self, job_id: str) -> int:
        self.tries[job_id] = self.tries.get(job_id, 0) + 1
        return self.tries[job_id]


class Running:
    """A committer at work."""

    def __init__(self) -> None:
        self.ledger, self.queue = Ledger(now_ms=lambda: NOW_MS), Queue()
        self.committer = Committer(
            cast(Any, self.ledger),
            cast(Any, self.queue),
            clock=lambda: NOW_MS,
            describe=lambda stored, _: Told(
                b"%d" % sum(len(q.entries) - len(left_out) for q, left_out in stored.fresh)
            ),
        )

    def hand_in(self, job_id: str, service: str, ts_ms: int = NOW_MS) -> asyncio.Task[None]:
        asked = request([1], stream(service))
        asked.entries[0] = type(asked.entries[0])(1, ts_ms, True, 9, "info", "message")
        return asyncio.create_task(self.committer.commit(Job(JOB_FORMAT, job_id, "", [asked])))


@pytest.fixture
async def running(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setattr(committers, "BACKOFF_S", (0.001, 0.002))
    monkeypatch.setattr(committers, "UNEXPECTED_PAUSE_S", 0.001)
    made = Running()
    task = asyncio.create_task(made.committer.run())
    yield made
    assert not task.done(), "it never ends by itself"
    task.cancel()
    await asyncio.wait([task])


async def test_what_is_committed_is_told_once_however_late(running: Running) -> None:
    """And stored once: a second run would find duplicates, and have nothing to tell."""
    running.queue.away = True
    late = running.hand_in("a", "first")
    await eventually(lambda: running.queue.tried >= 5)
    others = running.hand_in("b", "second")
    await eventually(lambda: any(key.numbering == "second" for key in running.ledger.ids))
    assert not late.done()
    running.queue.away = False
    async with asyncio.timeout(5):
        await asyncio.gather(late, others)
    assert sorted(told.live for told in running.queue.told) == [b"1", b"1"]
    assert running.committer.jobs_done == 2


async def test_trouble_of_one_job_is_its_own(running: Running) -> None:
    """One needs partitions, one brings out a mistake, one is well: all wait in the same group."""
    jobs = [
        running.hand_in("old", "old", LONG_AGO_MS),
        running.hand_in("bad", "mistake"),
        running.hand_in("well", "well"),
    ]
    async with asyncio.timeout(5):
        with pytest.raises(PartitionsPending):
            await jobs[0]
        await jobs[2]
        await eventually(lambda: running.queue.tries.get("bad", 0) >= 2)
    assert not jobs[1].done()
    jobs[1].cancel()
    await asyncio.wait(jobs)
