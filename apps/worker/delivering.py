"""Deliveries of alerts: taken with a lease, attempted, settled.

Guarantee: what was triggered is attempted until it was taken, or until the row of retries is over. A worker that ends
in the middle leaves its lease behind, and after it another worker attempts again: at least once, under one id.
"""

from __future__ import annotations

import asyncio
import contextlib
import random

import structlog

from apps.worker.sending import Sender
from tracehub.protocol.errors import TraceHubError
from tracehub.protocol.webhooks import GONE, LEASE_MS, Attempt, judge
from tracehub.runtime.clock import Clock
from tracehub.storage.postgres.alerts import AlertStore, Result, Taken

log = structlog.get_logger()

LOOK_S = 0.5
AT_ONCE_MAX = 16


class Deliverer:
    """Delivers until cancelled. `wake` is set where something new may be due."""

    def __init__(self, store: AlertStore, sender: Sender, clock: Clock) -> None:
        self._store = store
        self._sender = sender
        self._clock = clock
        self._running: set[asyncio.Task[None]] = set()
        self.wake = asyncio.Event()

    async def run(self) -> None:
        """Take what is due whenever there is room for it."""
        was_away = False
        try:
            while True:
                self.wake.clear()
                try:
                    await self._take()
                    was_away = False
                except TraceHubError as trouble:
                    if not was_away:
                        log.warning("deliveries.wait", reason=trouble.message)
                    was_away = True
                except Exception as error:  # a mistake of ours must not end who stores entries
                    log.exception("deliveries.failed", error=type(error).__name__)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.wake.wait(), LOOK_S)
        finally:
            for task in self._running:
                task.cancel()

    async def _take(self) -> None:
        room = AT_ONCE_MAX - len(self._running)
        for taken in await self._store.take(self._clock(), LEASE_MS, room) if room else ():
            task = asyncio.create_task(self._deliver(taken))
            self._running.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self.wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(
                "delivery.not_settled", error=type(error).__name__
            )  # its lease ends, and it comes again

    async def _deliver(self, taken: Taken) -> None:
        try:
            attempt = await self._sender.send(taken)
        except Exception as error:  # a mistake of ours must cost tries, or it would come for ever
            log.exception("delivery.failed", error=type(error).__name__)
            attempt = Attempt("it could not be sent")
        now_ms = self._clock()
        verdict = judge(attempt, taken.attempts, now_ms, random.random())  # noqa: S311 - spreads load, hides nothing
        over = verdict.status != "pending"
        if attempt.http_status == GONE:
            await self._store.disable(taken.alert_id, taken.channel, now_ms)
        await self._store.settle(
            taken,
            Result(
                verdict.status, attempt.http_status, attempt.error, verdict.next_ms, now_ms if over else None
            ),
        )
        log.info(
            "delivery.attempted",
            delivery=str(taken.id),
            attempt=taken.attempts,
            status=verdict.status,
            http_status=attempt.http_status,
        )
