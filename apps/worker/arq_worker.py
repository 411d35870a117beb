"""arq, behind one module: a worker of one queue that keeps the promise.

What is different from arq as it comes, and why (measured in docs/performance.md):
1. A lease of a few seconds, renewed while the job runs: a dead worker's jobs free themselves.
2. One script finds and leases what is free, and brings it along; a slot cannot leak when Redis goes away in
   between.
3. It looks when it is woken, when its jobs have ended, and every POLL_S; nothing is polled at speed. One worker is
   woken for a job (scripts.py). Who has work lets go first who has none, and who has none takes one job at a
   time: else one worker takes all and the other looks on.
4. A job ends in one step: by itself, together with what it has to say (it returns True), or here. arq's own
   way, five commands around every job, is left to its crons.
5. A Redis that restarts costs a pause, never the worker.
Never pickle: jobs are msgpack (tracehub/storage/redis/jobs.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC
from functools import partial
from typing import Any, TypeAlias

import structlog
from arq import func
from arq.connections import ArqRedis
from arq.cron import CronJob
from arq.worker import Retry, Worker
from redis.exceptions import RedisError

from tracehub.runtime.clock import now_ms
from tracehub.storage.redis import keys, scripts
from tracehub.storage.redis.jobs import deserialise, serialise, unpack
from tracehub.storage.redis.line import Line

log = structlog.get_logger()

JOBS_MAX = 8
READ_LIMIT = 64
POLL_S = 0.5
YIELD_S = 0.002
PATIENCE_S = 0.02
JOB_TIMEOUT_S = 120

# Gets arq's ctx and the job's body; True when it has taken its job out of the queue.
Function: TypeAlias = Callable[[dict[str, Any], bytes], Coroutine[Any, Any, bool]]


class QueueWorker(Worker):
    """One queue's worker. `run_until_stopped` works until `stop` is called, then lets running jobs end.

    `name` is unique among the workers of the queue. Somebody must listen to `channels` for it.
    """

    def __init__(
        self,
        queue: str,
        functions: Mapping[str, Function],
        *,
        name: str,
        line: Line,
        context: dict[str, Any],
        health_key: str,
        lease_s: int,
        crons: Sequence[CronJob] = (),
    ) -> None:
        pool = ArqRedis(
            connection_pool=line.redis.connection_pool, job_serializer=serialise, job_deserializer=deserialise,
            default_queue_name=queue,
        )  # fmt: skip
        super().__init__(
            functions=[func(c, name=name) for name, c in functions.items()],  # type: ignore[arg-type]
            queue_name=queue,
            cron_jobs=crons or None,
            redis_pool=pool,
            handle_signals=False,
            job_timeout=JOB_TIMEOUT_S,
            keep_result=0,
            health_check_key=health_key,
            ctx=context,
            job_serializer=serialise,
            job_deserializer=deserialise,
            log_results=False,
            timezone=UTC,
        )
        self._by_name = functions
        self._name = name
        self._lease_ms = lease_s * 1000
        self._line = line
        self._claim = pool.register_script(scripts.CLAIM)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._full = False  # the last look may have left something behind
        self._woken = asyncio.Event()
        self._patience: asyncio.TimerHandle | None = None
        self._stopping = False

    def channels(self) -> dict[str, Callable[[bytes], None]]:
        """What to call for which message."""
        return {
            keys.wake(self.queue_name): lambda _: self.hear(),
            keys.wake_one(self.queue_name, self._name): lambda _: self.wake(),
        }

    def wake(self) -> None:
        """Something was put into the queue, and it is for this worker."""
        self._woken.set()

    def hear(self) -> None:
        """Something was put into the queue; who runs nothing leaves it to those who do, for a while."""
        if self._running:
            self._woken.set()
        elif self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(PATIENCE_S, self._wait_no_longer)

    def _wait_no_longer(self) -> None:
        self._patience = None
        self._woken.set()

    async def run_until_stopped(self) -> None:
        """Take jobs until `stop`; then wait for those that run."""
        beating = asyncio.create_task(self._beat())
        try:
            while not self._stopping:
                if self._running:
                    await asyncio.sleep(YIELD_S)
                self._woken.clear()
                try:
                    await self._take()
                except RedisError as error:
                    log.warning("queue.unreachable", queue=self.queue_name, error=type(error).__name__)
                await self._pause()
            if self._running:
                await asyncio.wait(self._running.values(), timeout=JOB_TIMEOUT_S)
        finally:
            beating.cancel()
            with contextlib.suppress(RedisError):
                await self.pool.zrem(keys.idle(self.queue_name), self._name)

    def stop(self) -> None:
        """Take no more jobs."""
        self._stopping = True
        self._woken.set()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await self._woken.wait()

    async def _take(self) -> None:
        """Lease what is due and free, and start it."""
        free = JOBS_MAX - len(self._running) if self._running else 1
        self._full = free <= 0
        if self._full:
            return
        claimed = await self._line.run(
            self._claim,
            keys=[self.queue_name, keys.idle(self.queue_name)],
            args=[
                keys.IN_PROGRESS_PREFIX, keys.JOB_PREFIX, now_ms(), self._lease_ms, free, READ_LIMIT,
                "" if self._running else self._name,
            ],
        )  # fmt: skip
        self._full = len(claimed) == 3 * free
        for raw_id, score, body in zip(claimed[::3], claimed[1::3], claimed[2::3], strict=True):
            job_id = raw_id.decode()
            if job_id in self._running:  # its lease ran out while this process stood still
                continue
            job = self._run_cron(job_id, int(float(score))) if _is_cron(job_id) else self._run(job_id, body)
            task = self._running[job_id] = asyncio.create_task(job)
            task.add_done_callback(partial(self._ended, job_id))
        if self._full and len(self._running) < JOBS_MAX:
            self._woken.set()

    def _ended(self, job_id: str, task: asyncio.Task[None]) -> None:
        del self._running[job_id]
        if self._full or not self._running:
            self._woken.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # Redis went away at the end of the job: its lease runs out, and it comes again.
            log.warning("job.unfinished", job=job_id, error=type(error).__name__)

    async def _run(self, job_id: str, body: bytes) -> None:
        """One job, from its lease to its end. An empty body: its time to live has ended, nothing is to do."""
        done = again_ms = 0
        try:
            if body:
                name, argument = unpack(body)
                async with asyncio.timeout(JOB_TIMEOUT_S):
                    done = await self._by_name[name](self.ctx, argument)
        except Retry as retry:
            again_ms = retry.defer_score or 1
        except asyncio.CancelledError:
            await asyncio.shield(self._put_back(job_id, 1))
            raise
        except Exception as error:
            log.exception("job.failed", job=job_id, error=type(error).__name__)
        if again_ms:
            await self._put_back(job_id, again_ms)
        elif not done:
            await self._finish(job_id)

    async def _run_cron(self, job_id: str, score: int) -> None:
        """By arq; but its lease goes with it. arq keeps that for a minute, so that another worker that enqueues
        the same run late does not run it; here such leftovers would lie before the jobs, and a second run is
        harmless."""
        await self.run_job(job_id, score)
        await self.pool.delete(keys.in_progress(job_id))

    async def _put_back(self, job_id: str, delay_ms: int) -> None:
        """It is free again, and due after the delay; unless it was taken away meanwhile."""
        async with self.pool.pipeline(transaction=True) as pipe:
            if delay_ms > 1:
                pipe.zadd(self.queue_name, {job_id: now_ms() + delay_ms}, xx=True)
            pipe.delete(keys.in_progress(job_id))
            await pipe.execute()

    async def _finish(self, job_id: str) -> None:
        async with self.pool.pipeline(transaction=True) as pipe:
            pipe.zrem(self.queue_name, job_id)
            pipe.delete(keys.job_body(job_id), keys.in_progress(job_id))
            await pipe.execute()

    async def _beat(self) -> None:
        """arq's crons and sign of life, and the leases of what runs. A stopped or dead process does not get
        here, and that is the point."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                if not self._stopping:
                    await self.heart_beat()
                for job_id in list(self._running):
                    if not _is_cron(job_id):
                        await self.pool.set(keys.in_progress(job_id), b"1", px=self._lease_ms, xx=True)
            except RedisError:
                continue


def _is_cron(job_id: str) -> bool:
    return job_id.startswith(keys.CRON_PREFIX)
