"""Alerts as documents (log-service.md §7): what may be written, what PUT merges, what is shown. Pure.

A document is read whole or refused with the name of its first bad field; null is absent. Never changed by a merge:
id, tenant_id, created_at, last_triggered. Not here: when an alert is triggered (pipeline/alerts.py), texts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from tracehub.protocol.channels import Channel, Channels, Random, read_channels, shown_channels
from tracehub.protocol.errors import InvalidField
from tracehub.protocol.filters import AlertFilter, LogFilter, from_json
from tracehub.protocol.severity import range_of
from tracehub.protocol.shapes import Shown, Tenant, sent, shaped
from tracehub.protocol.times import iso

PER_TENANT_MAX: Final = 500
NAME_CHARS_MAX: Final = 255
DESCRIPTION_CHARS_MAX: Final = 4_096
THRESHOLD_MAX: Final = 1_000_000_000
MINUTES_MAX: Final = 1_440
MINUTE_MS: Final = 60_000
SEVERITIES: Final = ("INFO", "WARN", "ERROR", "CRITICAL")
Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
Threshold = Annotated[int, Meta(ge=1, le=THRESHOLD_MAX)]
Minutes = Annotated[int, Meta(ge=1, le=MINUTES_MAX)]
Severity = Annotated[str, Meta(extra_json_schema={"enum": list(SEVERITIES)}, description="in any case")]
_PLAIN: Final = ("name", "description", "enabled", "threshold", "window_mins", "cooldown_mins")


@dataclass(frozen=True, slots=True)
class AlertRule:
    """What somebody wants to be told of."""

    name: str
    filter: dict[str, Any]  # as sent
    threshold: int
    description: str = ""
    enabled: bool = True
    window_mins: int = 5
    severity: str = "ERROR"
    cooldown_mins: int = 1
    channels: tuple[Channel, ...] = ()


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule that is kept. `app_key`: the only service it sees, where who made it saw no other."""

    id: str
    tenant_id: str
    rule: AlertRule
    created_ms: int
    updated_ms: int
    last_triggered_ms: int | None = None
    app_key: str | None = None

    def wanted(self) -> LogFilter:
        """Its filter; times are not part of it."""
        return from_json(self.rule.filter)[0].of_service(self.app_key)

    def cools_ms(self, now_ms: int) -> int:
        """For how long it cannot be triggered again; 0: it can."""
        if self.last_triggered_ms is None:
            return 0
        return max(0, self.last_triggered_ms + self.rule.cooldown_mins * MINUTE_MS - now_ms)

    def window_start_ms(self, now_ms: int) -> int:
        """Where its window begins."""
        return now_ms - self.rule.window_mins * MINUTE_MS

    def shown(self, *, secrets: bool) -> dict[str, Any]:
        """As answers have it."""
        rule = self.rule
        return {
            "id": self.id,
            "tenant_id": self.tenant_id,
            "name": rule.name,
            "description": rule.description,
            "enabled": rule.enabled,
            "filter": rule.filter,
            "threshold": rule.threshold,
            "window_mins": rule.window_mins,
            "severity": rule.severity,
            "cooldown_mins": rule.cooldown_mins,
            "channels": shown_channels(rule.channels, secrets=secrets),
            "last_triggered": None if self.last_triggered_ms is None else iso(self.last_triggered_ms),
            "created_at": iso(self.created_ms),
            "updated_at": iso(self.updated_ms),
        }


class AlertChanges(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of PUT /alerts/{id}; null is absent."""

    name: Name | None = None
    description: Annotated[str, Meta(max_length=DESCRIPTION_CHARS_MAX)] | None = None
    enabled: bool | None = None
    filter: AlertFilter | None = None  # type: ignore[valid-type]  # made of the words of a filter
    threshold: Threshold | None = None
    window_mins: Minutes | None = None
    severity: Severity | None = None
    cooldown_mins: Minutes | None = None
    channels: Channels | None = None
    tenant_id: Tenant = None  # of a new one
    id: Shown = None
    last_triggered: Shown = None
    created_at: Shown = None
    updated_at: Shown = None


class AlertBody(AlertChanges, kw_only=True):
    """The body of POST /alerts; null is absent."""

    name: Name
    filter: AlertFilter  # type: ignore[valid-type]
    threshold: Threshold


def read_rule(document: dict[str, Any], random: Random) -> AlertRule:
    """Of an AlertBody. Raises InvalidField."""
    return _with(AlertRule("", {}, 1), shaped(document, AlertBody), document, random)


def merge(rule: AlertRule, document: dict[str, Any], random: Random) -> AlertRule:
    """The rule with what AlertChanges say; lists and objects are replaced whole. Raises InvalidField."""
    return _with(rule, shaped(document, AlertChanges), document, random)


def _with(rule: AlertRule, body: AlertChanges, document: dict[str, Any], random: Random) -> AlertRule:
    changes = sent(body, *_PLAIN)
    if body.severity is not None:
        changes["severity"] = _severity(body.severity)
    if body.filter is not None:
        changes["filter"] = _filter(document["filter"])
    if body.channels is not None:
        changes["channels"] = tuple(read_channels(document["channels"], random, rule.channels))
    return replace(rule, **changes)


def _severity(word: str) -> str:
    if word.upper() not in SEVERITIES:
        raise InvalidField(f"must be one of {', '.join(SEVERITIES)}", field="severity")
    return word.upper()


def _filter(given: dict[str, Any]) -> dict[str, Any]:
    """Raises InvalidField also for a word that no entry can have: such an alert could never fire."""
    try:
        from_json(given, AlertFilter)
    except InvalidField as bad:
        raise InvalidField(bad.message, field=f"filter.{bad.field}") from None
    for name in ("level", "min_level"):
        words = given.get(name) or []
        for word in words if isinstance(words, list) else [words]:
            if word and range_of(word) is None:
                raise InvalidField("is no level", field=f"filter.{name}")
    return given
