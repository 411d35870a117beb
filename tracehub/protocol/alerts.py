"""Alerts as documents (log-service.md §7): what may be written, what PUT merges, what is shown. Pure.

A document is read whole or refused with the name of its first bad field; null is absent. Never changed by a merge:
id, tenant_id, created_at, last_triggered. Not here: when an alert is triggered (pipeline/alerts.py), texts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from tracehub.protocol.channels import Channel, Random, read_channels, shown_channels
from tracehub.protocol.errors import InvalidField
from tracehub.protocol.filters import EXACT, LogFilter, from_json
from tracehub.protocol.severity import range_of
from tracehub.protocol.times import iso

PER_TENANT_MAX: Final = 500
NAME_CHARS_MAX: Final = 255
DESCRIPTION_CHARS_MAX: Final = 4_096
THRESHOLD_MAX: Final = 1_000_000_000
MINUTES_MAX: Final = 1_440
MINUTE_MS: Final = 60_000
SEVERITIES: Final = ("INFO", "WARN", "ERROR", "CRITICAL")
FILTER_FIELDS: Final = frozenset((*EXACT, "level", "min_level", "search", "metadata"))
_READ_ONLY: Final = frozenset(("id", "tenant_id", "last_triggered", "created_at", "updated_at"))
_FIELDS: Final = frozenset(
    (
        "name",
        "description",
        "enabled",
        "filter",
        "threshold",
        "window_mins",
        "severity",
        "cooldown_mins",
        "channels",
    )
)


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


def read_rule(body: dict[str, Any], random: Random) -> AlertRule:
    """The body of POST /alerts. Raises InvalidField."""
    for name in ("name", "filter", "threshold"):
        if body.get(name) is None:
            raise InvalidField("is required", field=name)
    return merge(AlertRule("", {}, 1), body, random)


def merge(rule: AlertRule, body: dict[str, Any], random: Random) -> AlertRule:
    """The rule with what was sent; lists and objects are replaced whole. Raises InvalidField."""
    for name in body:
        if name not in _FIELDS and name not in _READ_ONLY:
            raise InvalidField("is no field of an alert", field=name[:NAME_CHARS_MAX])
    changes: dict[str, Any] = {}
    for name, value in body.items():
        if name in _READ_ONLY or value is None:
            continue
        if name == "channels":
            changes[name] = tuple(read_channels(value, random, rule.channels))
        else:
            changes[name] = _READERS[name](value, name)
    return replace(rule, **changes)


def _name(value: Any, field: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= NAME_CHARS_MAX:
        raise InvalidField(f"must be a string of 1 to {NAME_CHARS_MAX} characters", field=field)
    return value


def _description(value: Any, field: str) -> str:
    if not isinstance(value, str) or len(value) > DESCRIPTION_CHARS_MAX:
        raise InvalidField(f"must be a string of at most {DESCRIPTION_CHARS_MAX} characters", field=field)
    return value


def _flag(value: Any, field: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidField("must be true or false", field=field)
    return value


def _whole(value: Any, field: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidField(f"must be a whole number from 1 to {most}", field=field)
    return value


def _threshold(value: Any, field: str) -> int:
    return _whole(value, field, THRESHOLD_MAX)


def _minutes(value: Any, field: str) -> int:
    return _whole(value, field, MINUTES_MAX)


def _severity(value: Any, field: str) -> str:
    word = value.upper() if isinstance(value, str) else value
    if word not in SEVERITIES:
        raise InvalidField(f"must be one of {', '.join(SEVERITIES)}", field=field)
    assert isinstance(word, str)
    return word


def _filter(value: Any, field: str) -> dict[str, Any]:
    """Raises InvalidField also for a word that no entry can have: such an alert could never fire."""
    if not isinstance(value, dict):
        raise InvalidField("must be an object", field=field)
    for name in value:
        if name not in FILTER_FIELDS:
            raise InvalidField("is no field of an alert's filter", field=f"{field}.{name[:NAME_CHARS_MAX]}")
    try:
        from_json(value)
    except InvalidField as bad:
        raise InvalidField(bad.message, field=f"{field}.{bad.field}" if bad.field else field) from None
    for name in ("level", "min_level"):
        words = value.get(name) or []
        for word in words if isinstance(words, list) else [words]:
            if word and range_of(word) is None:
                raise InvalidField("is no level", field=f"{field}.{name}")
    return value


_READERS: Final = {
    "name": _name,
    "description": _description,
    "enabled": _flag,
    "filter": _filter,
    "threshold": _threshold,
    "window_mins": _minutes,
    "severity": _severity,
    "cooldown_mins": _minutes,
}
