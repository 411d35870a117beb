"""The queue's Redis (ports.Queue, and the enqueue side of the backend).

Guarantee: a job, its queue entry and its in-flight mark come and go in one script each. This Redis need not
be durable: what it loses was never acknowledged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from tracehub.protocol.errors import Overloaded, Transient
from tracehub.protocol.limits import JOB_TTL_MS
from tracehub.protocol.messages import Job, Mark, Receipt, StreamKey, decode_mark, encode
from tracehub.storage.ports import Told
from tracehub.storage.redis import keys, scripts
from tracehub.storage.redis.failures import translated
from tracehub.storage.redis.jobs import REPLAY, SCORE_HEAD_START_MS, STORE, pack
from tracehub.storage.redis.line import Line

# So little in flight is one worker's work: waking a second one costs more than it brings.
TAKE_ALONG_ENTRIES_MAX = 256


@dataclass(frozen=True, slots=True)
class Depth:
    """One queue: entries that wait or run, and the age of the oldest job in ms."""

    entries: int
    jobs: int
    oldest_ms: int


def live_message(event: str, data: Mapping[str, Any]) -> bytes:
    """One message of the live bus."""
    return msgspec.msgpack.encode({"event": event, "data": data})


_NOTHING = Told()


class RedisQueue:
    """All operations raise Transient (not reachable) or Overloaded (out of memory, too much waiting)."""

    def __init__(
        self,
        redis: Redis,
        *,
        entries_max: int = 200_000,
        bytes_max: int = 256 * 1024**2,
        line: Line | None = None,
    ) -> None:
        """`line`: where others of this process use one, too."""
        self.redis = redis
        self._line = line or Line(redis)
        self._limits = (entries_max, bytes_max)
        self._enqueue = redis.register_script(scripts.ENQUEUE)
        self._settle = redis.register_script(scripts.SETTLE)
        self._committed = redis.register_script(scripts.COMMITTED)
        self._marks = redis.register_script(scripts.MARKS)
        self._once = redis.register_script(scripts.ENQUEUE_ONCE)
        self._move = redis.register_script(scripts.MOVE)
        self._sweep = redis.register_script(scripts.SWEEP)
        self._flush = redis.register_script(scripts.FLUSH)

    async def enqueue(self, job_id: str, job: bytes, mark: Mark, now_ms: int) -> None:
        """Put an encoded Job into queue:logs, with its mark."""
        body = pack(STORE, job, now_ms)
        score = now_ms - SCORE_HEAD_START_MS
        with translated():
            taken = await self._line.run(
                self._enqueue,
                keys=[
                    keys.job_body(job_id), keys.QUEUE_LOGS, keys.inflight(job_id), keys.INFLIGHT_INDEX,
                    keys.INFLIGHT_TOTALS, keys.idle(keys.QUEUE_LOGS),
                ],
                args=[
                    job_id, body, encode(mark), mark.entries, mark.bytes, score, JOB_TTL_MS, *self._limits,
                    keys.wake(keys.QUEUE_LOGS), TAKE_ALONG_ENTRIES_MAX,
                ],
            )  # fmt: skip
        if not taken:
            raise Overloaded(retry_after_s=1)

    async def marks(self) -> Mapping[str, Mark]:
        """See ports.Queue."""
        with translated():
            found = await self._line.run(self._marks, keys=[keys.INFLIGHT_INDEX], args=[keys.INFLIGHT_PREFIX])
        return {
            job_id.decode(): decode_mark(mark) for job_id, mark in zip(found[::2], found[1::2], strict=True)
        }

    async def is_marked(self, job_id: str) -> bool:
        """Whether a job still waits or runs, as far as its mark says."""
        with translated():
            return bool(await self.redis.exists(keys.inflight(job_id)))

    async def settle(self, receipts: Sequence[tuple[Job, Receipt]], told: Told = _NOTHING) -> None:
        """See ports.Queue."""
        by_backend: dict[str, list[Receipt]] = {}
        for job, receipt in receipts:
            if job.backend:
                by_backend.setdefault(job.backend, []).append(receipt)
        args: list[Any] = [keys.INFLIGHT_PREFIX, keys.JOB_PREFIX, keys.IN_PROGRESS_PREFIX, told.committed]
        args += [len(receipts), *(job.id for job, _ in receipts)]
        if told.live:
            args += [keys.LIVE_CHANNEL, told.live]
        for backend, heard in by_backend.items():
            args += [keys.receipts(backend), encode(heard)]
        with translated():
            generations = map(keys.generation, told.tenants)
            names = (keys.INFLIGHT_INDEX, keys.INFLIGHT_TOTALS, *keys.QUEUES, keys.COMMITS, *generations)
            await self._line.run(self._settle, keys=names, args=args)

    async def enqueue_replay(self, stream: StreamKey, delay_ms: int) -> None:
        """See ports.Queue."""
        job_id = keys.replay_job(stream.tenant_id, stream.numbering, stream.epoch)
        with translated():
            seconds, micros = await self.redis.time()
            now_ms = seconds * 1000 + micros // 1000
            await self._once(
                keys=[keys.QUEUE_RETRY, keys.job_body(job_id), keys.idle(keys.QUEUE_RETRY)],
                args=[
                    job_id, pack(REPLAY, encode(stream), now_ms), now_ms + delay_ms, JOB_TTL_MS,
                    keys.wake(keys.QUEUE_RETRY),
                ],
            )  # fmt: skip

    async def move_to_retry(self, job_id: str, now_ms: int, delay_ms: int = 0) -> None:
        """Take a job from queue:logs to queue:retry; its body and its mark stay as they are."""
        score = now_ms + delay_ms if delay_ms else now_ms - SCORE_HEAD_START_MS
        with translated():
            await self._move(
                keys=[keys.QUEUE_LOGS, keys.QUEUE_RETRY, keys.idle(keys.QUEUE_RETRY)],
                args=[job_id, score, keys.wake(keys.QUEUE_RETRY)],
            )

    async def count_try(self, job_id: str) -> int:
        """One more failure of this job that nobody can explain; how many there were."""
        with translated():
            tries = int(await self.redis.incr(keys.tries(job_id)))
            await self.redis.pexpire(keys.tries(job_id), JOB_TTL_MS)
            return tries

    async def claim(self, key: str, ttl_ms: int) -> bool:
        """Take a key that nobody holds, for at most so long."""
        with translated():
            return bool(await self.redis.set(key, 1, px=ttl_ms, nx=True))

    async def disclaim(self, key: str) -> None:
        """Let it go; it would expire by itself. Best effort."""
        with contextlib.suppress(Transient), translated():
            await self.redis.delete(key)

    async def publish(self, event: str, data: Mapping[str, Any]) -> None:
        """See ports.Queue."""
        with translated():
            await self.redis.publish(keys.LIVE_CHANNEL, live_message(event, data))

    async def publish_commit(self, told: Told) -> None:
        """A commit without receipts."""
        with translated():
            await self._committed(
                keys=[keys.COMMITS, *map(keys.generation, told.tenants)],
                args=[told.committed, keys.LIVE_CHANNEL, told.live],
            )

    async def deleted(self, tenant_id: str) -> None:
        """Rows of a tenant were deleted: no answer from before is true."""
        with translated():
            await cast(Awaitable[int], self.redis.hincrby(keys.generation(tenant_id), "d", 1))

    async def sweep(self) -> int:
        """Take away the marks of jobs that neither wait nor run; how many those were."""
        with translated():
            return int(
                await self._sweep(
                    keys=[keys.INFLIGHT_INDEX, keys.INFLIGHT_TOTALS, *keys.QUEUES],
                    args=[keys.INFLIGHT_PREFIX, keys.JOB_PREFIX, keys.IN_PROGRESS_PREFIX],
                )
            )

    async def flush(self) -> list[str]:
        """The fault: all waiting jobs, their bodies and marks go; their ids."""
        with translated():
            gone = await self._flush(
                keys=[keys.INFLIGHT_INDEX, keys.INFLIGHT_TOTALS, *keys.QUEUES],
                args=[
                    keys.INFLIGHT_PREFIX, keys.JOB_PREFIX, keys.IN_PROGRESS_PREFIX, keys.CRON_PREFIX,
                    keys.FLUSHED_CHANNEL,
                ],
            )  # fmt: skip
        return [job_id.decode() for job_id in gone]

    async def depths(self, now_ms: int) -> dict[str, Depth]:
        """Both queues, in entries."""
        with translated():
            async with self.redis.pipeline(transaction=True) as pipe:
                for queue in keys.QUEUES:
                    pipe.zrange(queue, 0, -1)
                pipe.hgetall(keys.INFLIGHT_INDEX)
                *waiting, index = await pipe.execute()
        marks = await self.marks()
        depths: dict[str, Depth] = {}
        for queue, ids in zip(keys.QUEUES, waiting, strict=True):
            sizes = [int(index[job].split(b":")[0]) for job in ids if job in index]
            ages = [now_ms - marks[job.decode()].queued_ms for job in ids if job.decode() in marks]
            jobs = [job for job in ids if not job.startswith(keys.CRON_PREFIX.encode())]
            depths[queue] = Depth(sum(sizes), len(jobs), max(ages, default=0))
        return depths

    async def ping(self) -> None:
        """Raises Transient when Redis does not answer."""
        with translated():
            if not await self.redis.ping():
                raise Transient("Redis does not answer")
