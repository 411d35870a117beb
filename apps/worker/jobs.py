"""The worker's jobs, thin: decode, call the use case, say when to come again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from arq.worker import Retry

from apps.worker.alerting import Alerting
from apps.worker.committer import Committer
from apps.worker.publisher import Publisher
from tracehub.pipeline.replay import Replayed, replay
from tracehub.pipeline.signoff import supersede
from tracehub.pipeline.store import PartitionsPending
from tracehub.protocol.errors import TraceHubError, Transient
from tracehub.protocol.limits import JOB_FORMAT
from tracehub.protocol.messages import StreamKey, decode_job
from tracehub.runtime.clock import now_ms, random_bytes
from tracehub.storage.postgres.ledger import PostgresLedger
from tracehub.storage.redis.buffers import RedisBuffers
from tracehub.storage.redis.queue import RedisQueue

log = structlog.get_logger()

DEADLINE_S = 60.0  # below arq's job_timeout, so that a slow store is tried again and not ended
UNKNOWN_FORMAT_PAUSE_S = 10
_decode_stream = msgspec.msgpack.Decoder(StreamKey).decode


@dataclass(frozen=True, slots=True)
class Parts:
    """What the jobs work with; arq hands it on as ctx["parts"]."""

    committer: Committer
    ledger: PostgresLedger
    queue: RedisQueue
    buffers: RedisBuffers
    publisher: Publisher
    gap_grace_ms: int
    gap_ranges_max: int
    alerting: Alerting


async def store_job(ctx: dict[str, Any], body: bytes) -> bool:
    """Store one job of batches, and end it. A job of a newer format waits for a newer worker."""
    parts: Parts = ctx["parts"]
    job = decode_job(body)
    if job.format != JOB_FORMAT:
        log.warning("job.unknown_format", job=job.id, format=job.format)
        raise Retry(defer=UNKNOWN_FORMAT_PAUSE_S)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await parts.committer.commit(job)
    except PartitionsPending:
        await parts.queue.move_to_retry(job.id, now_ms())
        raise Retry from None
    except TimeoutError:
        raise Retry(defer=1) from None
    return True


async def replay_job(ctx: dict[str, Any], body: bytes) -> bool:
    """Run the due replay requests of one stream; come again as long as there are any."""
    parts: Parts = ctx["parts"]
    stream = _decode_stream(body)
    try:
        done = await replay(
            parts.ledger,
            parts.buffers,
            parts.queue,
            stream,
            now_ms=now_ms(),
            random=random_bytes,
            gap_ranges_max=parts.gap_ranges_max,
        )
    except Transient as trouble:
        log.warning("replay.waits", service=stream.numbering, reason=trouble.message)
        raise Retry(defer=1) from None
    await _tell(parts, done)
    return False


async def _tell(parts: Parts, done: Replayed) -> None:
    done.stored.completed += done.completed
    if done.stored.outcomes or done.stored.completed:
        await parts.publisher.publish(done.stored, now_ms())


async def sweep_marks(ctx: dict[str, Any]) -> None:
    """Marks whose job neither waits nor runs go away."""
    parts: Parts = ctx["parts"]
    try:
        swept = await parts.queue.sweep()
    except TraceHubError:
        return
    if swept:
        log.warning("marks.swept", count=swept)


async def schedule_replays(ctx: dict[str, Any]) -> None:
    """Every stream with a due replay request gets its job; the ledger remembers what a crash forgot."""
    parts: Parts = ctx["parts"]
    try:
        for stream in await parts.ledger.streams_with_due_replays():
            await parts.queue.enqueue_replay(stream, 0)
    except TraceHubError as trouble:
        log.warning("replays.not_scheduled", reason=trouble.message)


async def fold_counts(ctx: dict[str, Any]) -> None:
    """What transactions counted becomes counts by hour; old Idempotency-Keys are forgotten."""
    parts: Parts = ctx["parts"]
    try:
        await parts.ledger.fold_counts()
        await parts.ledger.forget_once()
    except TraceHubError as trouble:
        log.warning("counts.not_folded", reason=trouble.message)


async def supersede_epochs(ctx: dict[str, Any]) -> None:
    """Gaps of older epochs are signed off."""
    parts: Parts = ctx["parts"]
    try:
        for stream, count in await supersede(parts.ledger, parts.queue):
            log.warning("epoch.superseded", service=stream.numbering, epoch=stream.epoch, lost=count)
    except TraceHubError as trouble:
        log.warning("epochs.not_superseded", reason=trouble.message)


async def sweep_alerts(ctx: dict[str, Any]) -> None:
    """Alerts whose hint a crash lost; old deliveries are forgotten."""
    parts: Parts = ctx["parts"]
    try:
        await parts.alerting.sweep()
        await parts.alerting.forget()
    except TraceHubError as trouble:
        log.warning("alerts.not_swept", reason=trouble.message)
