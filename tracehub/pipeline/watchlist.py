"""Hints of alerts: which of them a commit may concern (invariant 1 of alerts.py). Synchronous, and cheap on purpose.

Asked in this order, because each question spares the next: has the tenant alerts, does one wait for no look yet, does
it want this service and one of these levels (both known of a whole batch), and only then what single entries are. An
entry is decoded only for conditions on its metadata, and only where their keys stand in its text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tracehub.protocol.alerts import Alert
from tracehub.protocol.filters import LogFilter, matches
from tracehub.protocol.logentry import log_entry
from tracehub.protocol.messages import Entry, Request

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_.-]+").fullmatch
_OF_BATCH: Final = frozenset(("service", "door"))


@dataclass(slots=True)
class _Group:
    """Entries of one tenant and one service in a request: their places, and their levels."""

    service: str
    severities: set[int]
    places: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Watched:
    """An alert, taken apart."""

    alert: Alert
    wanted: LogFilter
    services: frozenset[str] | None
    doors: frozenset[str] | None
    severities: frozenset[int] | None
    columns: tuple[tuple[str, frozenset[str]], ...]
    search: str
    keys: tuple[bytes, ...]  # ends of keys that stand in the text of attrs, where they stand there plainly
    is_plain: bool  # nothing is said of single entries but perhaps their level

    @classmethod
    def of(cls, alert: Alert) -> _Watched:
        wanted = alert.wanted()
        exact = {column: frozenset(values) for column, values in wanted.exact}
        numbers = None
        if wanted.severities is not None:
            numbers = frozenset(n for first, last in wanted.severities for n in range(first, last + 1))
        columns = tuple((name, values) for name, values in exact.items() if name not in _OF_BATCH)
        keys = [key.split(".")[-1] for key, _ in wanted.metadata if _PLAIN_KEY(key)]
        return cls(
            alert, wanted, exact.get("service"), exact.get("door"), numbers, columns, wanted.search.lower(),
            tuple(key.encode() + b'"' for key in keys), not (columns or wanted.search or wanted.metadata),
        )  # fmt: skip

    def concerns(self, request: Request, group: _Group) -> bool:
        """Whether the batch may hold something of it."""
        return (
            (self.services is None or group.service in self.services)
            and (self.doors is None or request.door in self.doors)
            and (self.severities is None or not self.severities.isdisjoint(group.severities))
        )

    def finds(self, request: Request, group: _Group, created_ms: int) -> bool:
        """Whether one of the entries matches."""
        if not group.places or not self.concerns(request, group):
            return False
        if self.is_plain:
            return True
        entries, severities, search, columns = request.entries, self.severities, self.search, self.columns
        for place in group.places:
            e = entries[place]
            if severities is not None and e.severity not in severities:
                continue
            if search and search not in e.message.lower():
                continue
            if columns and not _fits(request, e, columns):
                continue
            if not self.wanted.metadata or self._has_metadata(request, place, created_ms):
                return True
        return False

    def _has_metadata(self, request: Request, place: int, created_ms: int) -> bool:
        attrs = request.entries[place].attrs
        if attrs is None:
            return False
        if b"\\u" not in attrs and any(key not in attrs for key in self.keys):
            return False
        return matches(self.wanted, log_entry(request, place, created_ms))


def _fits(request: Request, entry: Entry, columns: tuple[tuple[str, frozenset[str]], ...]) -> bool:
    for column, values in columns:
        # The one column that an entry without an own batch has of its request.
        holder = (entry.own or request) if column == "batch_id" else entry
        if getattr(holder, column) not in values:
            return False
    return True


class Watchlist:
    """The enabled alerts of all tenants."""

    def __init__(self) -> None:
        self._by_tenant: dict[str, list[_Watched]] = {}
        self._known: dict[str, Alert] = {}

    def replace(self, alerts: Iterable[Alert]) -> list[Alert]:
        """Take these instead; returns those that are new or changed, for which hints may have been missed."""
        known = {alert.id: alert for alert in alerts}
        fresh = []
        by_tenant: dict[str, list[_Watched]] = {}
        kept = {watched.alert.id: watched for found in self._by_tenant.values() for watched in found}
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
        self, fresh: Iterable[tuple[Request, set[int]]], created_ms: int, pending: Collection[str]
    ) -> list[str]:
        """The ids of alerts that something of a commit matches; those in `pending` are left out."""
        if not self._by_tenant:
            return []
        found: set[str] = set()
        for request, left_out in fresh:
            for tenant_id, groups in self._groups(request, left_out):
                for watched in self._by_tenant[tenant_id]:
                    alert_id = watched.alert.id
                    if alert_id in found or alert_id in pending:
                        continue
                    if any(watched.finds(request, group, created_ms) for group in groups):
                        found.add(alert_id)
        return sorted(found)

    def _groups(self, request: Request, left_out: set[int]) -> Iterable[tuple[str, Collection[_Group]]]:
        """The entries of tenants that have alerts."""
        entries = request.entries
        if not request.stream.by_server:
            if request.stream.tenant_id not in self._by_tenant:
                return []
            if not left_out:
                places: Sequence[int] = range(len(entries))
                severities = {e.severity for e in entries}
            else:
                places = [place for place in range(len(entries)) if place not in left_out]
                severities = {entries[place].severity for place in places}
            return [(request.stream.tenant_id, [_Group(request.service, severities, places)])]
        found: dict[str, dict[str, tuple[set[int], list[int]]]] = {}
        for place, e in enumerate(entries):
            own = e.own
            assert own is not None
            if own.tenant_id in self._by_tenant and place not in left_out:
                severities, of_service = found.setdefault(own.tenant_id, {}).setdefault(
                    own.service, (set(), [])
                )
                severities.add(e.severity)
                of_service.append(place)
        return [
            (tenant_id, [_Group(service, *group) for service, group in groups.items()])
            for tenant_id, groups in found.items()
        ]
