"""When an alert is triggered (log-service.md §7): hints at commit, a count that decides, one claim.

1. A hint is cheap and may be wrong in one direction only: what matches is always hinted, unless the process ends.
   It is never part of a store transaction, and costs nothing where a tenant has no alerts.
2. The count in the ledger's own rows decides. Counted are matching entries whose time, or whose receipt where they
   come from the future, lies in the last `window_mins`.
3. Claiming an alert and writing its deliveries is one atomic step: of many workers one triggers, and what is
   triggered is delivered, or nothing has happened.
4. An alert that was triggered before is triggered again only where something matched after that: a burst that stays
   in the window is told once. So whoever looks, because of a hint or of the sweep, finds the same.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tracehub.pipeline.completeness import HolesLedger, completeness
from tracehub.protocol.alerts import Alert
from tracehub.protocol.announcements import TRIGGERED, Sighting, event
from tracehub.protocol.channels import Channel
from tracehub.protocol.errors import QueryTimeout, Transient
from tracehub.protocol.filters import LogFilter, matches
from tracehub.protocol.logentry import log_entry
from tracehub.protocol.messages import Entry, Mark, Request


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """Something to be delivered. `id` is the webhook-id, the same over retries."""

    id: uuid.UUID
    channel: Channel
    body: bytes


class AlertLedger(Protocol):
    """What alerts ask of the store. All of it raises Transient, and questions QueryTimeout."""

    async def reaches(self, alert: Alert, start_ms: int, least: int) -> bool:
        """Whether at least so many entries match since then."""

    async def matched_since(self, alert: Alert, start_ms: int, since_ms: int) -> bool:
        """Whether one of them was written after `since_ms`."""

    async def sighted(
        self, alert: Alert, start_ms: int
    ) -> tuple[int, dict[str, Any] | None, dict[str, Any] | None]:
        """How many match since then, the first and the last of them."""

    async def claim(self, alert: Alert, now_ms: int, deliveries: Sequence[NewDelivery]) -> bool:
        """Trigger it, with its deliveries, unless it cools, is off, or is not what it was any more."""


# The marks of the queue; raises Transient.
Marks = Callable[[], Awaitable[Mapping[str, Mark]]]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a look works with."""

    ledger: AlertLedger
    holes: HolesLedger
    marks: Marks
    public_url: str


async def look(outlook: Outlook, alert: Alert, now_ms: int) -> bool:
    """Trigger the alert if it is time to; whether this call did. Raises Transient, QueryTimeout."""
    if not alert.rule.enabled or alert.cools_ms(now_ms):
        return False
    start_ms = alert.window_start_ms(now_ms)
    if not await outlook.ledger.reaches(alert, start_ms, alert.rule.threshold):
        return False
    last_ms = alert.last_triggered_ms
    if last_ms is not None and not await outlook.ledger.matched_since(alert, start_ms, last_ms):
        return False
    seen = await sight(outlook, alert, now_ms, at_least=alert.rule.threshold)
    return await outlook.ledger.claim(alert, now_ms, announced(alert, seen, outlook.public_url))


async def sight(outlook: Outlook, alert: Alert, now_ms: int, *, at_least: int = 0) -> Sighting:
    """What there is in the window right now, and what the ledger knows of it."""
    start_ms = alert.window_start_ms(now_ms)
    try:
        count, first, last = await outlook.ledger.sighted(alert, start_ms)
    except QueryTimeout:  # too many to be counted in time: that there are enough is known
        count, first, last = at_least, None, None
    try:
        marks: Iterable[Mark] | None = (await outlook.marks()).values()
    except Transient:
        marks = None
    services = dict(alert.wanted().exact).get("service")
    known = await completeness(
        outlook.holes, marks, alert.tenant_id, services=services, window_ms=(start_ms, now_ms)
    )
    return Sighting(max(count, at_least), start_ms, now_ms, first, last, known.shown())


def announced(alert: Alert, seen: Sighting, public_url: str, kind: str = TRIGGERED) -> list[NewDelivery]:
    """A delivery for each channel that is on."""
    body = event(alert, seen, public_url, kind)
    return [
        NewDelivery(uuid.uuid4(), channel, body)
        for channel in alert.rule.channels
        if not channel.get("disabled")
    ]


@dataclass(frozen=True, slots=True)
class _Watched:
    alert: Alert
    wanted: LogFilter
    services: frozenset[str] | None
    severities: frozenset[int] | None
    by_head: bool  # service and severity say all there is to say

    @classmethod
    def of(cls, alert: Alert) -> _Watched:
        wanted = alert.wanted()
        asked = dict(wanted.exact).get("service")
        numbers = None
        if wanted.severities is not None:
            numbers = frozenset(n for first, last in wanted.severities for n in range(first, last + 1))
        others = [column for column, _ in wanted.exact if column != "service"]
        plain = not (others or wanted.search or wanted.metadata or wanted.parts)
        return cls(alert, wanted, None if asked is None else frozenset(asked), numbers, plain)

    def fits(self, service: str, severity: int) -> bool:
        return (self.services is None or service in self.services) and (
            self.severities is None or severity in self.severities
        )


class Watchlist:
    """The enabled alerts of all tenants, and which of them a commit may concern."""

    def __init__(self) -> None:
        self._by_tenant: dict[str, list[_Watched]] = {}
        self._known: dict[str, Alert] = {}

    def replace(self, alerts: Iterable[Alert]) -> list[Alert]:
        """Take these instead; returns those that are new or changed, for which hints may have been missed."""
        known = {alert.id: alert for alert in alerts}
        fresh = []
        by_tenant: dict[str, list[_Watched]] = {}
        kept = {w.alert.id: w for found in self._by_tenant.values() for w in found}
        for alert in known.values():
            before = self._known.get(alert.id)
            if before is None or before.updated_ms != alert.updated_ms:
                fresh.append(alert)
            watched = kept[alert.id] if before == alert else _Watched.of(alert)
            by_tenant.setdefault(alert.tenant_id, []).append(watched)
        self._by_tenant, self._known = by_tenant, known
        return fresh

    def get(self, alert_id: str) -> Alert | None:
        """An alert as it was read last."""
        return self._known.get(alert_id)

    def hints(
        self,
        fresh: Iterable[tuple[Request, set[int]]],
        created_ms: int,
        pending: Mapping[str, Any],
    ) -> list[str]:
        """The ids of alerts that something of a commit matches; those in `pending` are left out."""
        if not self._by_tenant:
            return []
        found: set[str] = set()
        for request, left_out in fresh:
            for tenant_id, entries in self._concerned(request, left_out).items():
                for watched in self._by_tenant[tenant_id]:
                    alert = watched.alert
                    if alert.id in found or alert.id in pending:
                        continue
                    if _any_matches(watched, request, entries, created_ms):
                        found.add(alert.id)
        return sorted(found)

    def _concerned(self, request: Request, left_out: set[int]) -> dict[str, _Entries]:
        """The entries of tenants that have alerts, by their service and severity."""
        concerned: dict[str, _Entries] = {}
        if not request.stream.by_server:
            if request.stream.tenant_id not in self._by_tenant:
                return {}
            heads = concerned[request.stream.tenant_id] = {}
            service = request.service
            for index, e in enumerate(request.entries):
                if index not in left_out:
                    heads.setdefault((service, e.severity), []).append(index)
            return concerned
        for index, e in enumerate(request.entries):
            own = e.own
            assert own is not None
            if own.tenant_id in self._by_tenant and index not in left_out:
                heads = concerned.setdefault(own.tenant_id, {})
                heads.setdefault((own.service, e.severity), []).append(index)
        return concerned


_Entries = dict[tuple[str, int], list[int]]  # places within a request, by service and severity


def _any_matches(watched: _Watched, request: Request, entries: _Entries, created_ms: int) -> bool:
    for head, places in entries.items():
        if not watched.fits(*head):
            continue
        if watched.by_head:
            return True
        if any(_matches(watched.wanted, request, place, created_ms) for place in places):
            return True
    return False


def _matches(wanted: LogFilter, request: Request, place: int, created_ms: int) -> bool:
    """As `filters.matches`, with the cheap question first: the rest of an entry must be decoded for it."""
    e: Entry = request.entries[place]
    if wanted.search and wanted.search.lower() not in e.message.lower():
        return False
    return matches(wanted, log_entry(request, place, created_ms))
