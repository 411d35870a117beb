"""Schedules as cron writes them: minute, hour, day of the month, month, weekday. Pure.

Each field is `*`, or numbers, ranges `a-b` and steps `*/n`, `a-b/n`, with commas between; months and weekdays also by
their English names; weekday 0 and 7 are Sunday. Where day and weekday are both given, either one is enough, as cron has
it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LENGTHS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_PART = re.compile(r"(?:(\*)|(\w+)(?:-(\w+))?)(?:/(\d+))?").fullmatch


@dataclass(frozen=True, slots=True)
class Schedule:
    """None: any. Weekdays count from Monday, 0. `either`: a day of the month or of the week is enough."""

    minutes: frozenset[int] | None
    hours: frozenset[int] | None
    days: frozenset[int] | None
    months: frozenset[int] | None
    weekdays: frozenset[int] | None

    @property
    def either(self) -> bool:
        return self.days is not None and self.weekdays is not None


def read_schedule(text: str) -> Schedule:
    """Raises ValueError for what is no schedule."""
    fields = text.split()
    if len(fields) != 5:
        raise ValueError("a schedule has five fields: minute, hour, day, month, weekday")
    minute, hour, day, month, weekday = fields
    weekdays = _numbers(weekday, 0, 7, {name: n for n, name in enumerate(_WEEKDAYS)})
    days = _numbers(day, 1, 31)
    months = _numbers(month, 1, 12, {name: n for n, name in enumerate(_MONTHS, 1)})
    if days and months and weekdays is None and min(days) > max(_LENGTHS[n - 1] for n in months):
        raise ValueError("a schedule has a day that never comes")
    return Schedule(
        _numbers(minute, 0, 59),
        _numbers(hour, 0, 23),
        days,
        months,
        None if weekdays is None else frozenset((n - 1) % 7 for n in weekdays),
    )


def _numbers(field: str, least: int, most: int, names: dict[str, int] | None = None) -> frozenset[int] | None:
    if field == "*":
        return None
    found: set[int] = set()
    for part in field.split(","):
        match = _PART(part.lower())
        if match is None:
            raise ValueError("a schedule has a field that cannot be read")
        star, low, high, step = match.groups()
        first = least if star else _number(low, names or {})
        last = most if star or (step and not high) else _number(high, names or {}) if high else first
        if not least <= first <= last <= most or step == "0":
            raise ValueError(f"a schedule has a number that is not in {least}..{most}")
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str, names: dict[str, int]) -> int:
    if text in names:
        return names[text]
    if not (text.isascii() and text.isdigit()):
        raise ValueError("a schedule has a name that is not known there")
    return int(text[:4])
