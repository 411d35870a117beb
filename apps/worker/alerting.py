"""The worker's part in alerts: hints of its commits, looks at what was hinted, the sweep, deliveries.

Looks and deliveries have a few connections of their own, so that a slow count never keeps a commit waiting. An alert
whose count is slow is looked at more rarely: at most a PACE-th of the time goes into it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random

import structlog
from redis.asyncio import Redis

from apps.worker.delivering import Deliverer
from apps.worker.sending import Sender
from tracehub.pipeline.alerts import Outlook, look
from tracehub.pipeline.store import Stored
from tracehub.pipeline.watchlist import Watchlist
from tracehub.protocol.addresses import is_loopback
from tracehub.protocol.alerts import Alert
from tracehub.protocol.errors import TraceHubError
from tracehub.runtime.clock import Clock, monotonic_s
from tracehub.runtime.settings import Settings
from tracehub.storage.postgres.alerts import AlertStore
from tracehub.storage.postgres.connect import open_pool
from tracehub.storage.postgres.reading import LedgerReading
from tracehub.storage.postgres.search import LogSearch
from tracehub.storage.redis.exposure import Exposure
from tracehub.storage.redis.queue import RedisQueue

log = structlog.get_logger()

REFRESH_S = 1.0
SETTLE_S = 0.1  # from a commit to the look: its marks go away meanwhile, and more entries come together
PACE = 4
LOOKS_AT_ONCE = 3
SWEEP_S = 28.0  # the next one begins after 30
CONNECTIONS_MAX = LOOKS_AT_ONCE + 2  # and one to know the alerts, one for deliveries


class Alerting:
    """Everything about alerts that one worker does."""

    def __init__(
        self,
        settings: Settings,
        redis: Redis,
        queue: RedisQueue,
        clock: Clock,
        *,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self._clock = clock
        self.pool = open_pool(settings.database(), "tracehub-alerts", most=connections_max)
        self._store = AlertStore(self.pool, LogSearch(self.pool).fetch)
        self._outlook = Outlook(self._store, LedgerReading(self.pool), queue.marks, settings.public_url)
        self._watchlist = Watchlist()
        self._due: dict[str, float] = {}  # alerts to look at, and when
        self._paced: dict[str, float] = {}  # before this an alert is not looked at again
        self._hinted = asyncio.Event()
        self._turns = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._looking: set[asyncio.Task[None]] = set()
        exposure = Exposure(redis)

        async def may_reach_private() -> bool:
            if settings.alert_private_urls != "auto":
                return settings.alert_private_urls == "allow"
            return is_loopback(settings.host) and not await exposure.is_exposed()

        self.deliverer = Deliverer(self._store, Sender(settings, may_reach_private, clock), clock)

    def notice(self, stored: Stored) -> None:
        """Something was committed; never fails and never waits."""
        try:
            hints = self._watchlist.hints(stored.fresh, stored.created_ms, self._due)
        except Exception as error:  # the entries are stored: nothing may undo that, and the sweep sees them
            log.exception("alerts.hint_failed", error=type(error).__name__)
            return
        for alert_id in hints:
            self._due[alert_id] = self._time_for(alert_id)
            self._hinted.set()

    def _time_for(self, alert_id: str) -> float:
        """When a hint is looked at: soon; of an alert that cools, when it may be triggered again."""
        alert, now_s = self._watchlist.get(alert_id), monotonic_s()
        cools_s = alert.cools_ms(self._clock()) / 1000 if alert else 0.0
        return max(now_s + SETTLE_S, now_s + cools_s, self._paced.get(alert_id, 0.0))

    async def watch(self) -> None:
        """Look at what is hinted, and know the alerts, until cancelled."""
        try:
            await self._watch()
        finally:
            for task in self._looking:
                task.cancel()

    async def _watch(self) -> None:
        refreshed_s = 0.0
        was_away = False
        while True:
            now_s = monotonic_s()
            try:
                if now_s - refreshed_s >= REFRESH_S:
                    refreshed_s = now_s
                    await self._refresh()
                self._look_at_due()
                was_away = False
            except TraceHubError as trouble:
                if not was_away:
                    log.warning("alerts.wait", reason=trouble.message)
                was_away = True
            except Exception as error:  # a mistake of ours must not end who stores entries
                log.exception("alerts.watch_failed", error=type(error).__name__)
            await self._until_due(refreshed_s + REFRESH_S)

    async def _until_due(self, latest_s: float) -> None:
        self._hinted.clear()
        until_s = min((latest_s, *self._due.values()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.01, until_s - monotonic_s())):
                await self._hinted.wait()

    async def _refresh(self) -> None:
        fresh = self._watchlist.replace(await self._store.enabled())
        now_s = monotonic_s()
        for alert in fresh:
            self._due[alert.id] = now_s
        self._paced = {alert_id: at_s for alert_id, at_s in self._paced.items() if at_s > now_s}

    def _look_at_due(self) -> None:
        """Begin to look; nobody waits for slow ones."""
        now_s = monotonic_s()
        for alert_id in [alert_id for alert_id, at_s in self._due.items() if at_s <= now_s]:
            del self._due[alert_id]  # before the look: what is committed from now on hints again
            alert = self._watchlist.get(alert_id)
            if alert is None:
                continue
            if alert.cools_ms(self._clock()):  # somebody else was first
                self._due[alert_id] = self._time_for(alert_id)
                continue
            task = asyncio.create_task(self._in_turn(alert))
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)

    async def _in_turn(self, alert: Alert) -> None:
        async with self._turns:
            await self._look(alert)

    async def _look(self, alert: Alert) -> None:
        """What cannot be asked now is left to the sweep."""
        began_s = monotonic_s()
        try:
            if await look(self._outlook, alert, self._clock()):
                log.info("alert.triggered", alert=alert.id)
                self.deliverer.wake.set()
        except TraceHubError as trouble:
            log.warning("alert.not_looked_at", alert=alert.id, reason=trouble.message)
        except Exception as error:  # one alert must not keep the others from being looked at
            log.exception("alert.look_failed", alert=alert.id, error=type(error).__name__)
        ended_s = monotonic_s()
        self._paced[alert.id] = ended_s + PACE * (ended_s - began_s)

    async def sweep(self) -> None:
        """Look at every alert, for what a crash lost, within SWEEP_S. Raises Transient."""
        alerts = await self._store.enabled()
        random.shuffle(alerts)  # where the time does not suffice, each has its turn some time
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SWEEP_S):
                for alert in alerts:
                    await self._look(alert)

    async def forget(self) -> None:
        """Drop old deliveries. Raises Transient."""
        await self._store.forget()
