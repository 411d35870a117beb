"""Retention in a worker: runs that somebody asked for, or that were left half-way; and what partitions need besides.

A run is a row that waits; whoever gets the lock does it, and the lock goes with the process. Both are tasks of a worker
and no jobs: a job has JOB_TIMEOUT_S, and deleting or indexing a month may take hours.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import asyncpg
import structlog
from arq.cron import CronJob, cron

from tracehub.pipeline.retention import Archive, Run, Tools, retain
from tracehub.protocol.errors import TraceHubError
from tracehub.protocol.schedule import read_schedule
from tracehub.runtime.clock import now_ms
from tracehub.runtime.settings import Settings
from tracehub.storage.archive import Archives
from tracehub.storage.postgres.closed import index_closed
from tracehub.storage.postgres.ledger import PostgresLedger
from tracehub.storage.postgres.policies import Policies
from tracehub.storage.postgres.retention import RetentionLock
from tracehub.storage.redis.queue import RedisQueue

log = structlog.get_logger()

LOOK_S = 1.0
TROUBLE_S = 5.0
PARTITIONS_FIRST_S = 5.0
PARTITIONS_EVERY_S = 3_600.0


def tools(settings: Settings, queue: RedisQueue) -> Tools:
    """What runs work with."""
    archive: Archive = Archives(*settings.archives())

    async def deleted(tenant_id: str) -> None:
        with contextlib.suppress(TraceHubError):  # answers are remembered for seconds only
            await queue.deleted(tenant_id)

    return Tools(archive, asyncio.sleep, deleted, settings.log_retention_days, settings.log_max_size_gb)


async def keep_retaining(lock: RetentionLock, given: Tools) -> None:
    """Look for runs until cancelled; cancelled half-way, another worker goes on with it."""
    while True:
        wait_s = LOOK_S
        try:
            if await lock.is_wanted():
                await _work(lock, given)
        except TraceHubError as trouble:
            log.warning("retention.waits", reason=trouble.message)
            wait_s = TROUBLE_S
        except Exception as error:  # whatever it is: who looks no more deletes nothing ever again
            log.exception("retention.failed", error=type(error).__name__)
            wait_s = TROUBLE_S
        await asyncio.sleep(wait_s)


async def _work(lock: RetentionLock, given: Tools) -> None:
    async with lock.held() as store:
        while store is not None and (run := await store.take()) is not None:
            log.info("retention.started", run=run.id, dry_run=run.dry_run)
            done = await retain(store, given, run)
            _tell(run, done.error, done.locked)


def _tell(run: Run, error: str | None, locked: Sequence[str]) -> None:
    if error:
        log.warning("retention.incomplete", run=run.id, reason=error)
    for name in locked:
        log.warning("retention.partition_locked", partition=name)
    log.info("retention.finished", run=run.id)


async def keep_partitions(ledger: PostgresLedger, pool: asyncpg.Pool) -> None:
    """Soon after the start and every hour: the next partitions are made, closed ones are indexed."""
    await asyncio.sleep(PARTITIONS_FIRST_S)
    while True:
        try:
            await ledger.partitions_ahead(now_ms())
            made = await index_closed(pool, now_ms())
            if made:
                log.info("partitions.indexed", indexes=made)
        except TraceHubError as trouble:
            log.warning("partitions.not_kept", reason=trouble.message)
        except Exception as error:
            log.exception("partitions.failed", error=type(error).__name__)
        await asyncio.sleep(PARTITIONS_EVERY_S)


def cleanup_crons(settings: Settings) -> list[CronJob]:
    """By schedule somebody asks for a run."""
    if not settings.log_cleanup_enabled:
        return []
    wanted = read_schedule(settings.log_cleanup_cron)
    when: dict[str, Any] = {
        "minute": _set(wanted.minutes), "hour": _set(wanted.hours), "month": _set(wanted.months),
        "second": 0, "max_tries": 1,
    }  # fmt: skip
    name = "cron:ask_retention"
    if wanted.either:
        return [
            cron(ask_retention, name=f"{name}_by_day", day=_set(wanted.days), **when),
            cron(ask_retention, name=f"{name}_by_weekday", weekday=_set(wanted.weekdays), **when),
        ]
    return [cron(ask_retention, name=name, day=_set(wanted.days), weekday=_set(wanted.weekdays), **when)]


def _set(numbers: frozenset[int] | None) -> Any:
    return None if numbers is None else set(numbers)


async def ask_retention(ctx: dict[str, Any]) -> None:
    """It is time; of all workers that notice one is heard."""
    policies: Policies = ctx["policies"]
    try:
        await policies.ask_run(due_ms=int(ctx["job_id"].rsplit(":", 1)[1]) // 1000 * 1000)
    except TraceHubError as trouble:
        log.warning("retention.not_asked", reason=trouble.message)
