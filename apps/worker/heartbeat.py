"""A worker's sign of life, and its ear for the fault crash_worker."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import structlog

from tracehub.protocol.errors import TraceHubError
from tracehub.runtime.clock import monotonic_s
from tracehub.storage.redis.workers import BEAT_S, WorkerRecord, Workers

log = structlog.get_logger()

CRASH_WAITS_FOR_WORK_S = 0.5
CRASH_LOOK_S = 0.001


async def beat(workers: Workers, describe: Callable[[], WorkerRecord]) -> None:
    """Beat until cancelled; a Redis that is away is no reason to stop working."""
    while True:
        try:
            await workers.beat(describe())
        except TraceHubError as error:
            log.warning("heartbeat.unheard", reason=error.message)
        await asyncio.sleep(BEAT_S)


async def crash_on_demand(message: bytes, worker_id: str, busy: Callable[[], bool]) -> None:
    """End at once, as kill -9 would, in the middle of work if there is any soon."""
    if message.decode(errors="replace") != worker_id:
        return
    deadline = monotonic_s() + CRASH_WAITS_FOR_WORK_S
    while not busy() and monotonic_s() < deadline:  # noqa: ASYNC110 - a fault may be crude
        await asyncio.sleep(CRASH_LOOK_S)
    os.kill(os.getpid(), signal.SIGKILL)
