"""Group commit: whatever jobs wait are stored in one transaction, and each is told when it is settled. While one
group is settled the next is stored already.

Guarantee: `commit(job)` returns only after the job's rows are committed and its mark is gone, or after its
entries were set aside in a commit of their own. Transient failures cost no try: the group waits, its jobs
keep their lease, and the queue fills up, which is the back-pressure the door sees.
Cancelling `commit` leaves the job in the group; it runs on, and the next run of the job joins it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import structlog

from tracehub.pipeline.store import Moment, PartitionsPending, Stored, set_aside, store
from tracehub.protocol.errors import TraceHubError, Transient
from tracehub.protocol.limits import JOB_TRIES_MAX
from tracehub.protocol.messages import Job, Mark, Receipt
from tracehub.runtime.clock import Clock
from tracehub.storage.ports import Told
from tracehub.storage.postgres.ledger import PostgresLedger
from tracehub.storage.redis.queue import RedisQueue

log = structlog.get_logger()

BACKOFF_S = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
UNEXPECTED_PAUSE_S = 1.0

Describe = Callable[[Stored, int], Told]


@dataclass(slots=True)
class _Waiting:
    job: Job
    done: asyncio.Future[None]
    rows: int
    settling: bool = False  # it is stored, and not to be taken again


class Committer:
    """One store transaction at a time over one ledger. `describe(stored, now_ms)` says it to the viewers."""

    def __init__(
        self,
        ledger: PostgresLedger,
        queue: RedisQueue,
        *,
        clock: Clock,
        describe: Describe,
        rows_max: int = 5_000,
        gap_ranges_max: int = 2_000,
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._clock = clock
        self._describe = describe
        self._rows_max = rows_max
        self._gap_ranges_max = gap_ranges_max
        self._waiting: dict[str, _Waiting] = {}
        self._arrived = asyncio.Event()
        self._settling: set[asyncio.Task[None]] = set()
        self.busy = False  # inside a store transaction right now
        self.jobs_done = 0

    async def commit(self, job: Job) -> None:
        """Wait until the job is settled. Raises PartitionsPending: put it into queue:retry and come again."""
        waiting = self._waiting.get(job.id)
        if waiting is None:
            done = asyncio.get_running_loop().create_future()
            waiting = _Waiting(job, done, sum(len(request.entries) for request in job.requests))
            self._waiting[job.id] = waiting
            self._arrived.set()
        await asyncio.shield(waiting.done)

    async def run(self) -> None:
        """Commit groups until cancelled."""
        failures = 0
        while True:
            await self._arrived.wait()
            group = self._take()
            if not group:
                self._arrived.clear()
                continue
            try:
                await self._commit(group)
                failures = 0
            except PartitionsPending as pending:
                await self._alone(group, pending)
            except Transient as trouble:
                log.warning("store.waits", reason=trouble.message, jobs=len(group), failures=failures)
                if trouble.message.startswith("the ledger is not"):
                    self._ledger.forget()
                await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                failures += 1
            except Exception as error:
                await self._unexpected(group, error)

    def _take(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        rows = 0
        for waiting in self._waiting.values():
            if waiting.settling:
                continue
            if group and rows + waiting.rows > self._rows_max:
                break
            group.append(waiting)
            rows += waiting.rows
        return group

    async def _commit(self, group: Sequence[_Waiting]) -> None:
        requests = [request for waiting in group for request in waiting.job.requests]
        self.busy = True
        try:
            with self._moment(group) as moment:
                stored = await store(self._ledger, requests, moment)
        finally:
            self.busy = False
        self._begin_to_settle(group, stored)

    @contextlib.contextmanager
    def _moment(self, group: Sequence[_Waiting]) -> Iterator[Moment]:
        """Asks for the marks at once: they come while the rows are encoded and the transaction begins."""
        own = {waiting.job.id for waiting in group}
        reading = asyncio.ensure_future(self._queue.marks())

        async def others() -> Sequence[Mark]:
            return [mark for job_id, mark in (await reading).items() if job_id not in own]

        try:
            yield Moment(others, self._clock(), self._gap_ranges_max)
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, asyncio.InvalidStateError):
                reading.exception()  # nobody may have come to hear it

    def _begin_to_settle(self, group: Sequence[_Waiting], stored: Stored) -> None:
        outcomes = iter(stored.outcomes)
        receipts = [
            (waiting.job, Receipt(waiting.job.id, [next(outcomes) for _ in waiting.job.requests]))
            for waiting in group
        ]
        told = self._describe(stored, self._clock())
        for waiting in group:
            waiting.settling = True
        task = asyncio.create_task(self._settle(group, receipts, told))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(
        self, group: Sequence[_Waiting], receipts: Sequence[tuple[Job, Receipt]], told: Told
    ) -> None:
        """Until it is done: the rows are committed, and what is said of them now nobody would say again."""
        for pause_s in chain(BACKOFF_S, repeat(BACKOFF_S[-1])):
            try:
                await self._queue.settle(receipts, told)
                break
            except TraceHubError as trouble:
                log.warning("settle.waits", reason=trouble.message, jobs=len(group))
            except Exception as error:
                log.exception("settle.failed", jobs=len(group), error=type(error).__name__)
            await asyncio.sleep(pause_s)
        self.jobs_done += len(group)
        for waiting in group:
            self._release(waiting)

    def _release(self, waiting: _Waiting, error: TraceHubError | None = None) -> None:
        self._waiting.pop(waiting.job.id, None)
        if not waiting.done.done():
            if error is None:
                waiting.done.set_result(None)
            else:
                waiting.done.set_exception(error)
                waiting.done.exception()  # its job may have gone away: that is no news

    async def _alone(self, group: Sequence[_Waiting], pending: PartitionsPending) -> None:
        """Many partitions must be made: only the job that needs them waits for that."""
        if len(group) == 1:
            self._release(group[0], pending)
            return
        for waiting in group:
            try:
                await self._commit([waiting])
            except PartitionsPending as own:
                self._release(waiting, own)
            except Transient:
                return  # the rest of the group comes again
            except Exception as mistake:
                await self._unexpected([waiting], mistake)

    async def _unexpected(self, group: Sequence[_Waiting], error: Exception) -> None:
        """A mistake of ours: find the job that brings it out; after JOB_TRIES_MAX its entries are set aside."""
        log.exception("store.failed", jobs=len(group), error=type(error).__name__)
        await asyncio.sleep(UNEXPECTED_PAUSE_S)
        for waiting in group if len(group) > 1 else ():
            try:
                await self._commit([waiting])
            except Exception as own:
                log.warning("store.failed_alone", job=waiting.job.id, error=type(own).__name__)
        if len(group) > 1:
            return
        waiting = group[0]
        try:
            if await self._queue.count_try(waiting.job.id) < JOB_TRIES_MAX:
                return
            reason = f"failed {JOB_TRIES_MAX} times ({type(error).__name__})"
            with self._moment(group) as moment:
                stored = await set_aside(self._ledger, waiting.job.requests, moment, reason)
            self._begin_to_settle(group, stored)
        except Exception:
            log.exception("store.set_aside_failed", job=waiting.job.id)
