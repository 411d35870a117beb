"""arq, behind one module: a worker of one queue that keeps the promise.

What is different from arq as it comes, and why (measured in docs/performance.md):
1. A lease of a few seconds, renewed while the job runs: a dead worker's jobs free themselves.
2. One script finds and leases what is free; a slot cannot leak when Redis goes away in between.
3. It looks when it is woken, when a job ends, and every POLL_S; nothing is polled at speed.
4. A Redis that restarts costs a pause, never the worker.
Never pickle: jobs are msgpack (tracehub/storage/redis/jobs.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import structlog
from arq import func
from arq.connections import ArqRedis
from arq.cron import CronJob
from arq.worker import Worker
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from tracehub.runtime.clock import now_ms
from tracehub.storage.redis import keys, scripts
from tracehub.storage.redis.jobs import deserialise, serialise

log = structlog.get_logger()

JOBS_MAX = 8
READ_LIMIT = 64
POLL_S = 0.5
JOB_TIMEOUT_S = 120
NEVER = 10**9


class QueueWorker(Worker):
    """One queue's worker. `run_until_stopped` works until `stop` is called, then lets running jobs end."""

    def __init__(
        self,
        queue: str,
        functions: Sequence[tuple[str, Any]],
        *,
        connections: ConnectionPool,
        context: dict[str, Any],
        health_key: str,
        lease_s: int,
        crons: Sequence[CronJob] = (),
    ) -> None:
        pool = ArqRedis(
            connection_pool=connections, job_serializer=serialise, job_deserializer=deserialise,
            default_queue_name=queue,
        )  # fmt: skip
        super().__init__(
            functions=[func(coroutine, name=name, max_tries=NEVER) for name, coroutine in functions],
            queue_name=queue,
            cron_jobs=crons or None,
            redis_pool=pool,
            handle_signals=False,
            max_jobs=JOBS_MAX,
            queue_read_limit=READ_LIMIT,
            job_timeout=JOB_TIMEOUT_S,
            keep_result=0,
            max_tries=NEVER,
            health_check_key=health_key,
            ctx=context,
            job_serializer=serialise,
            job_deserializer=deserialise,
            log_results=False,
        )
        self.in_progress_timeout_s = float(lease_s)
        self._claim = pool.register_script(scripts.CLAIM)
        self._woken = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Something was put into the queue."""
        self._woken.set()

    async def run_until_stopped(self) -> None:
        """Take jobs until `stop`; then wait for those that run."""
        renewing = asyncio.create_task(self._renew())
        try:
            while not self._stopping:
                self._woken.clear()
                try:
                    await self._poll_iteration()
                except RedisError as error:
                    log.warning("queue.unreachable", queue=self.queue_name, error=type(error).__name__)
                await self._pause()
            if self.tasks:
                await asyncio.wait(self.tasks.values(), timeout=JOB_TIMEOUT_S)
        finally:
            renewing.cancel()

    def stop(self) -> None:
        """Take no more jobs."""
        self._stopping = True
        self.allow_pick_jobs = False
        self._woken.set()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await self._woken.wait()

    async def _poll_iteration(self) -> None:
        """Lease what is due and free, start it, clear away what has ended."""
        free = self.max_jobs - self.job_counter
        if self.allow_pick_jobs and free > 0:
            lease_ms = int(self.in_progress_timeout_s * 1000)
            claimed = await self._claim(
                keys=[self.queue_name],
                args=[keys.IN_PROGRESS_PREFIX, now_ms(), lease_ms, free, self.queue_read_limit],
            )
            for raw_id, score in zip(claimed[::2], claimed[1::2], strict=True):
                self._start(raw_id.decode(), int(float(score)))
        for job_id, task in list(self.tasks.items()):
            if task.done():
                del self.tasks[job_id]
                if (error := task.exception()) is not None:
                    # Redis went away at the end of the job: its lease runs out, and it comes again.
                    log.warning("job.unfinished", job=job_id, error=type(error).__name__)
        await self.heart_beat()

    def _start(self, job_id: str, score: int) -> None:
        self.job_counter += 1
        task = self.loop.create_task(self.run_job(job_id, score))
        task.add_done_callback(self._free_slot)
        self.tasks[job_id] = task

    def _free_slot(self, _: asyncio.Task[Any]) -> None:
        self.job_counter -= 1
        self._woken.set()

    async def _renew(self) -> None:
        """Keep the leases of what runs; a stopped or dead process does not get here, and that is the point."""
        while True:
            await asyncio.sleep(1)
            lease_ms = int(self.in_progress_timeout_s * 1000)
            try:
                for job_id in list(self.job_tasks):
                    if not job_id.startswith(keys.CRON_PREFIX):
                        await self.pool.set(keys.in_progress(job_id), b"1", px=lease_ms)
            except RedisError:
                continue
