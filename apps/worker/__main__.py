"""The worker process: two arq queues, one committer, crons, a heartbeat. `python -m apps.worker`.

Stops on SIGTERM or SIGINT: takes no more jobs, ends those that run, says goodbye, closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from typing import Any

import structlog
import uvloop
from arq.cron import CronJob, cron

from apps.worker.alerting import CONNECTIONS_MAX, Alerting
from apps.worker.arq_worker import QueueWorker
from apps.worker.closing import keep_closing
from apps.worker.committer import Committer
from apps.worker.heartbeat import beat, crash_on_demand
from apps.worker.jobs import (
    Parts,
    fold_counts,
    replay_job,
    schedule_replays,
    store_job,
    supersede_epochs,
    sweep_alerts,
    sweep_marks,
)
from apps.worker.publisher import Publisher
from apps.worker.retaining import cleanup_crons, keep_partitions, keep_retaining, tools
from tracehub.protocol.errors import TraceHubError
from tracehub.runtime import logging as logs
from tracehub.runtime.clock import now_ms
from tracehub.runtime.lifecycle import close_stores, end, freeze_heap
from tracehub.runtime.settings import Settings, read_settings
from tracehub.storage.postgres.connect import POOL_MAX, open_pool, shared, worker_application
from tracehub.storage.postgres.ledger import PostgresLedger
from tracehub.storage.postgres.policies import Policies
from tracehub.storage.postgres.retention import RetentionLock
from tracehub.storage.postgres.watch import LockWatch
from tracehub.storage.redis import keys
from tracehub.storage.redis.buffers import RedisBuffers
from tracehub.storage.redis.connect import open_redis
from tracehub.storage.redis.jobs import REPLAY, STORE
from tracehub.storage.redis.line import Line
from tracehub.storage.redis.listening import listen
from tracehub.storage.redis.queue import RedisQueue
from tracehub.storage.redis.workers import WorkerRecord, Workers

log = structlog.get_logger()


async def run(settings: Settings) -> None:
    """Work until a signal comes."""
    worker_id = settings.worker_id or f"{socket.gethostname()[:12]}-{os.getpid()}"
    incarnation = secrets.token_hex(4)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    redis = open_redis(settings.redis())
    ears = open_redis(settings.redis(), timeout_s=None)
    buffers_redis = open_redis(settings.buffer_redis())
    workers = Workers(redis)
    application = worker_application(worker_id, incarnation)
    most, for_alerts = shared(settings.db_max_open_conns, POOL_MAX, CONNECTIONS_MAX)
    pool = open_pool(settings.database(), application, most=most)
    await pool  # opens no connection yet: Postgres may come later
    line = Line(redis)
    queue = RedisQueue(redis, line=line)
    alerting = Alerting(settings, redis, queue, now_ms, connections_max=for_alerts)
    await alerting.pool
    watch = LockWatch(alerting.pool, workers.is_alive)
    ledger = PostgresLedger(
        pool,
        partition=settings.partition,
        epochs_max=settings.epochs_max,
        services_max=settings.services_max,
        gap_grace_ms=settings.gap_grace_ms,
        watch=watch,
    )
    publisher = Publisher(queue, worker_id, settings.live_entries_per_second_max, alerting.notice)
    committer = Committer(
        ledger,
        queue,
        clock=now_ms,
        describe=publisher.describe,
        rows_max=settings.group_rows_max,
        gap_ranges_max=settings.gap_ranges_max,
    )
    parts = Parts(
        committer, ledger, queue, RedisBuffers(buffers_redis), publisher, settings.gap_grace_ms,
        settings.gap_ranges_max, alerting,
    )  # fmt: skip
    logs_worker, retry_worker = _queue_workers(
        line,
        {"parts": parts, "policies": Policies(pool)},
        worker_id,
        name=f"{worker_id}.{incarnation}",
        lease_s=settings.job_lease_s,
        cleanup=cleanup_crons(settings),
    )

    def describe() -> WorkerRecord:
        status = "busy" if committer.busy else "idle"
        return WorkerRecord(
            worker_id, incarnation, now_ms(), committer.jobs_done, status, settings.supervised,
            settings.worker_restart_ms,
        )  # fmt: skip

    def wake_all() -> None:
        logs_worker.wake()
        retry_worker.wake()

    background = [
        asyncio.create_task(committer.run()),
        asyncio.create_task(beat(workers, describe)),
        asyncio.create_task(keep_closing(ledger, queue)),
        asyncio.create_task(keep_retaining(RetentionLock(pool, watch), tools(settings, queue))),
        asyncio.create_task(keep_partitions(ledger, pool)),
        asyncio.create_task(alerting.watch()),
        asyncio.create_task(alerting.deliverer.run()),
        asyncio.create_task(
            listen(
                ears,
                {
                    **logs_worker.channels(),
                    **retry_worker.channels(),
                    keys.WORKER_CONTROL_CHANNEL: lambda m: crash_on_demand(
                        m, worker_id, lambda: committer.busy
                    ),
                },
                wake_all,
            )
        ),
    ]
    working = [asyncio.create_task(w.run_until_stopped()) for w in (logs_worker, retry_worker)]
    log.info("worker.started", worker=worker_id, incarnation=incarnation)
    ended = asyncio.create_task(stop.wait())
    await asyncio.wait([ended, *working, *background], return_when=asyncio.FIRST_COMPLETED)
    for worker in (logs_worker, retry_worker):
        worker.stop()
    await asyncio.wait(working, timeout=DRAIN_S)
    failures = await end([*background, *working, ended])
    with contextlib.suppress(TraceHubError):
        await workers.goodbye(worker_id)
    await close_stores((pool, alerting.pool), (redis, ears, buffers_redis))
    log.info("worker.stopped", worker=worker_id, failures=len(failures))
    if failures:
        raise failures[0]


DRAIN_S = 20.0


def _queue_workers(
    line: Line,
    context: dict[str, Any],
    worker_id: str,
    *,
    name: str,
    lease_s: int,
    cleanup: list[CronJob],
) -> tuple[QueueWorker, QueueWorker]:
    functions = {STORE: store_job, REPLAY: replay_job}
    crons = [
        cron(sweep_marks, name="cron:sweep_marks", second=set(range(0, 60, 2)), max_tries=1),
        cron(schedule_replays, name="cron:schedule_replays", second=set(range(60)), max_tries=1),
        cron(fold_counts, name="cron:fold_counts", second=set(range(0, 60, 10)), max_tries=1),
        cron(supersede_epochs, name="cron:supersede_epochs", second=set(range(0, 60, 5)), max_tries=1),
        *cleanup,
        cron(sweep_alerts, name="cron:sweep_alerts", second={0, 30}, max_tries=1),
    ]
    logs_worker = QueueWorker(
        keys.QUEUE_LOGS,
        functions,
        name=name,
        line=line,
        context=context,
        health_key=keys.health(worker_id, keys.QUEUE_LOGS),
        lease_s=lease_s,
    )
    retry_worker = QueueWorker(
        keys.QUEUE_RETRY,
        functions,
        name=name,
        line=line,
        context=context,
        health_key=keys.health(worker_id, keys.QUEUE_RETRY),
        lease_s=lease_s,
        crons=crons,
    )
    return logs_worker, retry_worker


def main() -> None:
    """Entry point of `tracehub worker`."""
    settings = read_settings()
    logs.configure(settings.log_level, settings.log_format)
    freeze_heap()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(settings))


if __name__ == "__main__":
    main()
