"""Group enqueue and the wait for receipts: between a door and the queue.

Guarantee: an outcome handed to a door comes from a committed transaction, either by receipt or, where the
receipt is late or was not heard, from the ledger itself. Invariants: (1) at most two jobs are unreceipted,
what arrives meanwhile shares the next (tracehub/pipeline/grouping.py); (2) a request that is neither queued
nor stored ends in Unavailable, never in silence.
Cancelling a wait leaves the request in the queue: it will be stored, and a resend is a duplicate.
Limits: PENDING_BYTES_MAX of requests that wait here. Not here: validation (doors), storing (workers).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from tracehub.pipeline.grouping import Unreceipted, decide
from tracehub.pipeline.recount import recount
from tracehub.protocol.errors import Overloaded, TraceHubError, Unavailable
from tracehub.protocol.ids import sortable_id
from tracehub.protocol.limits import GROUP_JOBS_MAX, JOB_BYTES_TARGET, JOB_FORMAT
from tracehub.protocol.messages import Mark, MarkedStream, Outcome, Request, decode_receipts, encode
from tracehub.runtime.clock import Clock, Random, monotonic_s
from tracehub.storage.ports import Ledger
from tracehub.storage.redis.queue import RedisQueue

log = structlog.get_logger()

PENDING_BYTES_MAX = 64 * 1024 * 1024
ASKING_MAX = 4


@dataclass(slots=True, eq=False)
class Pending:
    """A request on its way. `queued` ends when it is in the queue, `outcome` when its receipt came.

    The outcome is None when it still waits or runs at the deadline (monotonic seconds). Both raise Unavailable
    when the job is gone, Overloaded when the queue is full.
    """

    request: Request
    encoded: bytes
    since_s: float
    deadline_s: float
    queued: asyncio.Future[None]
    outcome: asyncio.Future[Outcome | None]
    job_id: str = ""


class Submitter:
    """One per backend process; `backend_id` names the channel on which receipts come."""

    def __init__(
        self,
        queue: RedisQueue,
        ledger: Ledger,
        *,
        backend_id: str,
        clock: Clock,
        random: Random,
        receipt_wait_s: float = 0.5,
        watch: Callable[[Pending], None] | None = None,
    ) -> None:
        """`watch` is shown each request that is handed in."""
        self._queue = queue
        self._ledger = ledger
        self._backend_id = backend_id
        self._clock = clock
        self._random = random
        self._receipt_wait_s = receipt_wait_s
        self._watch = watch
        self._pending: deque[Pending] = deque()
        self._pending_bytes = 0
        self._jobs: dict[str, list[Pending]] = {}  # without receipt
        self._out: dict[str, Unreceipted] = {}  # the same
        self._ask_now = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0

    def submit(self, request: Request, wait_s: float) -> Pending:
        """Take a request in; its outcome is known after `wait_s`. Raises Overloaded when too much waits here."""
        encoded = encode(request)
        if self._pending_bytes + len(encoded) > PENDING_BYTES_MAX:
            raise Overloaded(retry_after_s=1)
        loop = asyncio.get_running_loop()
        now = monotonic_s()
        pending = Pending(request, encoded, now, now + wait_s, loop.create_future(), loop.create_future())
        if self._watch is not None:
            self._watch(pending)
        self._pending.append(pending)
        self._pending_bytes += len(encoded)
        if self._timer is None or len(self._out) < GROUP_JOBS_MAX:  # else it would only look again
            self._flush()
        return pending

    async def run(self) -> None:
        """Ask the ledger for those whose receipt is late, or was not heard, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._receipt_wait_s / 4):
                    await self._ask_now.wait()
            everybody = self._ask_now.is_set()
            self._ask_now.clear()
            late = monotonic_s() - self._receipt_wait_s
            waiting = [
                pending
                for job_id, group in list(self._jobs.items())
                if everybody or self._out[job_id].sent_s < late
                for pending in group
                if pending.queued.done() and not pending.outcome.done()
            ]
            for at in range(0, len(waiting), ASKING_MAX):
                await asyncio.gather(*map(self._ask, waiting[at : at + ASKING_MAX]))
            self._end_overdue()
            self._forget_settled()

    async def _ask(self, pending: Pending) -> None:
        """One question to mark and ledger, in this order: what is in neither is gone."""
        try:
            marked = await self._queue.is_marked(pending.job_id)
            outcome = await recount(self._ledger, self._queue, pending.request)
        except TraceHubError as error:
            log.warning("receipt.not_asked", reason=error.message)
            return
        if pending.outcome.done():
            return
        if outcome is not None:
            pending.outcome.set_result(outcome)
        elif not marked:
            self._fail(pending, Unavailable("the queue lost the batch; send it again", retry_after_s=1))

    def heard(self, message: bytes) -> None:
        """A receipt message."""
        for receipt in decode_receipts(message):
            self._out.pop(receipt.job_id, None)
            group = self._jobs.pop(receipt.job_id, ())
            for pending, outcome in zip(group, receipt.outcomes, strict=False):
                if not pending.outcome.done():
                    pending.outcome.set_result(outcome)
        self._flush()

    def flushed(self, message: bytes) -> None:
        """Jobs were taken away by flush_queue: who waits for them is told at once."""
        for job_id in message.decode().split("\n"):
            self._out.pop(job_id, None)
            for pending in self._jobs.pop(job_id, ()):
                self._fail(pending, Unavailable("the queue was flushed; send the batch again"))
        self._flush()

    def reconnected(self) -> None:
        """What was said while nobody listened was not heard: all waiters ask the ledger now."""
        self._ask_now.set()

    def _flush(self) -> None:
        """Send the next jobs, as far as the rule of two allows."""
        while self._pending:
            if self._pending[0].outcome.done():  # overdue: nobody was told that it is under way
                self._pending_bytes -= len(self._pending.popleft().encoded)
                continue
            now = monotonic_s()
            out = self._out.values()
            decision = decide(now, len(self._pending), self._pending[0].since_s, out)
            if not decision.send:
                self._flush_later(now, decision.wait_s)
                return
            job_id = sortable_id(self._clock(), self._random(10))
            group = self._take(job_id, decision.send)
            self._jobs[job_id] = group
            self._out[job_id] = Unreceipted(now, len(group))
            task = asyncio.create_task(self._send(job_id, group))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _end_overdue(self) -> None:
        """Nobody waits longer than the deadline; what did not reach the queue by then is not said to be there."""
        now = monotonic_s()
        for group in (self._pending, *self._jobs.values()):
            for pending in group:
                if pending.deadline_s >= now or pending.outcome.done():
                    continue
                if pending.queued.done():
                    pending.outcome.set_result(None)
                else:
                    self._fail(pending, Unavailable("the queue does not answer; send the batch again"))

    def _forget_settled(self) -> None:
        """Jobs without anybody waiting for them need not be remembered."""
        for job_id in [j for j, group in self._jobs.items() if all(p.outcome.done() for p in group)]:
            self._jobs.pop(job_id)
            self._out.pop(job_id, None)

    def _flush_later(self, now_s: float, wait_s: float) -> None:
        at_s = now_s + max(wait_s, 0.001)
        if self._timer is None or self._timer_s > at_s + 0.0005:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_s = at_s
            self._timer = asyncio.get_running_loop().call_later(at_s - now_s, self._flush_timer)

    def _flush_timer(self) -> None:
        self._timer = None
        self._flush()

    def _take(self, job_id: str, most: int) -> list[Pending]:
        """The next group: at most so many requests, and no more bytes than a job shall have."""
        group: list[Pending] = []
        size = 0
        while self._pending and (
            not group or (len(group) < most and size + len(self._pending[0].encoded) <= JOB_BYTES_TARGET)
        ):
            pending = self._pending.popleft()
            pending.job_id = job_id
            size += len(pending.encoded)
            group.append(pending)
        self._pending_bytes -= size
        return group

    async def _send(self, job_id: str, group: list[Pending]) -> None:
        job = encode((JOB_FORMAT, job_id, self._backend_id, [msgspec.Raw(p.encoded) for p in group]))
        mark = Mark(
            tuple(MarkedStream(p.request.stream, p.request.ranges) for p in group),
            sum(len(p.request.entries) for p in group),
            len(job),
            self._clock(),
        )
        try:
            await self._queue.enqueue(job_id, job, mark, self._clock())
        except TraceHubError as error:
            self._jobs.pop(job_id, None)
            self._out.pop(job_id, None)
            told = error if isinstance(error, Overloaded) else Unavailable(retry_after_s=1)
            for pending in group:
                self._fail(pending, told)
            self._flush()
        else:
            for pending in group:
                if not pending.queued.done():
                    pending.queued.set_result(None)

    @staticmethod
    def _fail(pending: Pending, error: TraceHubError) -> None:
        for future in (pending.queued, pending.outcome):
            if not future.done():
                future.set_exception(error)
                future.exception()  # nobody may be waiting for this one
