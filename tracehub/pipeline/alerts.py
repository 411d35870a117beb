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
from tracehub.protocol.messages import Mark


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
