"""Find time and level in a log line. Pure: no clock, no file.

Known: JSON lines, ISO times anywhere near the start (log4j, OpenStack, most others), Apache error and access,
syslog (RFC 3164 and 5424), HDFS `081109 203615`, `17/06/09 20:10:40`. A time without zone is UTC; a year that
is missing is the latest that does not put the line after `reference_ms`. What is not recognised stays None,
and so does a time that the server would refuse (before 2000-01-01 or more than a day after the reference).
Levels are given as they stand in the line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

TS_MIN_MS = 946_684_800_000
DAY_MS = 86_400_000
HEAD_CHARACTERS = 160  # a time further in belongs to the message
LEVEL_CHARACTERS = 60  # a level further behind the time does, too
LINE_CHARACTERS_MAX = 64 * 1024  # longer JSON lines are not parsed

MONTHS = {
    m: i
    for i, m in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1
    )
}
SYSLOG_LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")

_WORDS = (
    "TRACE|VERBOSE|DEBUG|INFO|INFORMATION|NOTICE|WARN|WARNING|ERROR|ERR|SEVERE|CRITICAL|CRIT|FATAL|PANIC|"
    "ALERT|EMERGENCY|EMERG"
)
_UPPER = re.compile(rf"(?<![\w.-])({_WORDS})(?![\w.-])")
_BRACKETED = re.compile(rf"\[(?:[\w-]+:)?({_WORDS})\d?\]", re.IGNORECASE)
_LABELLED = re.compile(rf'\b(?:level|lvl|severity)["\']?\s*[=:]\s*["\']?({_WORDS})\b', re.IGNORECASE)
_SPOKEN = re.compile(rf"^\s*({_WORDS}): ", re.IGNORECASE)

_ISO = re.compile(
    r"(?<!\d)(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?\s?(Z|UTC|[+-]\d\d:?\d\d)?(?!\d)"
)
_APACHE_ERROR = re.compile(r"^\[(?:\w{3}) (\w{3}) +(\d{1,2}) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))? (\d{4})\]")
_APACHE_ACCESS = re.compile(
    r'^(\S+) \S+ \S+ \[(\d{1,2})/(\w{3})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-]\d{4})\] "[^"]*" (\d{3})'
)
_HDFS = re.compile(r"^(\d\d)(\d\d)(\d\d) (\d\d)(\d\d)(\d\d) ")
_SLASHED = re.compile(r"^(\d\d)/(\d\d)/(\d\d) (\d\d):(\d\d):(\d\d)(?!\d)")
_PRIORITY = re.compile(r"^<(\d{1,3})>(?:\d )?")
_SYSLOG = re.compile(r"^(\w{3}) {1,2}(\d{1,2}) (\d\d):(\d\d):(\d\d) (\S+) ([^\s:\[]{1,64})(?:\[\d+\])?: ?")
_OPENSTACK_REQUEST = re.compile(r"\[(req-[0-9a-f-]{36})")

_JSON_TIMES = ("timestamp", "@timestamp", "time", "ts", "datetime", "date", "asctime", "t")
_JSON_LEVELS = ("level", "severity", "lvl", "levelname", "log.level", "loglevel", "log_level")
_JSON_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "trace_id": ("trace_id", "traceId", "trace.id"),
    "span_id": ("span_id", "spanId", "span.id"),
    "request_id": ("request_id", "requestId", "req_id"),
    "user_id": ("user_id", "userId"),
    "host": ("host", "hostname"),
    "source": ("logger", "source", "caller"),
}


@dataclass(frozen=True, slots=True)
class Recognised:
    """`ts` in milliseconds, `level` as written, and columns like `host` or `request_id`."""

    ts: int | None = None
    level: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


NOTHING = Recognised()


def recognise(line: str, reference_ms: int) -> Recognised:
    """What the line says about itself. `reference_ms`: when the file was last written."""
    found = NOTHING
    for read in _READERS:
        try:
            known = read(line, reference_ms)
        except (ValueError, OverflowError):  # 31 February, hour 25
            continue
        if known is not None:
            found = known
            break
    if found is NOTHING:
        found = Recognised(level=_level(line[:HEAD_CHARACTERS]))
    if found.ts is not None and not TS_MIN_MS <= found.ts <= reference_ms + DAY_MS:
        return Recognised(None, found.level, found.fields)
    return found


def _ms(year: int, *rest: int, fraction: str = "", zone: str = "") -> int:
    month, day, hour, minute, second = rest
    leap = second == 60  # a leap second is the second after it
    at = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=UTC) + timedelta(
        seconds=leap
    )
    ms = round(at.timestamp()) * 1000 + int(f"{fraction[:3]:0<3}")
    if zone and zone[0] in "+-":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        ms -= (1 if zone[0] == "+" else -1) * (hours * 60 + minutes) * 60_000
    return ms


def _month(name: str) -> int:
    number = MONTHS.get(name.lower())
    if number is None:
        raise ValueError(name)
    return number


def _level(text: str) -> str | None:
    for pattern in (_BRACKETED, _LABELLED, _UPPER, _SPOKEN):
        if found := pattern.search(text):
            return found[1]
    return None


def _level_after(line: str, end: int) -> str | None:
    return _level(line[end : end + LEVEL_CHARACTERS])


def _json(line: str, reference_ms: int) -> Recognised | None:
    if not line.startswith("{") or len(line) > LINE_CHARACTERS_MAX:
        return None
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    level = _first(document, _JSON_LEVELS)
    columns = {name: _first(document, keys) for name, keys in _JSON_COLUMNS.items()}
    fields = {name: value for name, value in columns.items() if isinstance(value, str) and value}
    ts = _json_time(_first(document, _JSON_TIMES), reference_ms)
    return Recognised(ts, level if isinstance(level, str) and level else None, fields)


def _first(document: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((document[key] for key in keys if document.get(key) is not None), None)


def _json_time(value: object, reference_ms: int) -> int | None:
    if isinstance(value, str):
        return recognise(value, reference_ms).ts if not value.startswith("{") else None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e20:
        return None
    for per_ms in (0.001, 1, 1_000, 1_000_000):  # seconds, milli-, micro-, nanoseconds
        if TS_MIN_MS <= (ms := value / per_ms) <= reference_ms + DAY_MS:
            return int(ms)
    return None


def _apache_error(line: str, _: int) -> Recognised | None:
    if not (m := _APACHE_ERROR.match(line)):
        return None
    clock = (int(m[3]), int(m[4]), int(m[5]))
    ts = _ms(int(m[7]), _month(m[1]), int(m[2]), *clock, fraction=m[6] or "")
    return Recognised(ts, _level_after(line, m.end()))


def _apache_access(line: str, _: int) -> Recognised | None:
    if not (m := _APACHE_ACCESS.match(line)):
        return None
    clock = (int(m[5]), int(m[6]), int(m[7]))
    ts = _ms(int(m[4]), _month(m[3]), int(m[2]), *clock, zone=m[8])
    status = int(m[9])
    level = "error" if status >= 500 else "warning" if status >= 400 else "info"
    return Recognised(ts, level)


def _two_digit_year(year: str) -> int:
    return 2000 + int(year)


def _hdfs(line: str, _: int) -> Recognised | None:
    if not (m := _HDFS.match(line)):
        return None
    rest = [int(part) for part in m.groups()[1:]]
    return Recognised(_ms(_two_digit_year(m[1]), *rest), _level_after(line, m.end()))


def _slashed(line: str, _: int) -> Recognised | None:
    if not (m := _SLASHED.match(line)):
        return None
    rest = [int(part) for part in m.groups()[1:]]
    return Recognised(_ms(_two_digit_year(m[1]), *rest), _level_after(line, m.end()))


def _syslog(line: str, reference_ms: int) -> Recognised | None:
    priority = _PRIORITY.match(line)
    begin = priority.end() if priority else 0
    if not (m := _SYSLOG.match(line[begin : begin + HEAD_CHARACTERS])):
        return None
    ts = _without_year(reference_ms, _month(m[1]), *(int(part) for part in m.groups()[1:5]))
    level = SYSLOG_LEVELS[int(priority[1]) & 7] if priority else None
    said = _SPOKEN.match(line[begin + m.end() :][:LEVEL_CHARACTERS])
    if level is None and said:
        level = said[1]
    return Recognised(ts, level, {"host": m[6], "source": m[7]})


def _without_year(reference_ms: int, *rest: int) -> int:
    """The latest such moment that is not after the reference (a day of clock trouble allowed)."""
    year = datetime.fromtimestamp(reference_ms / 1000, UTC).year
    for candidate in range(year + 1, year - 9, -1):
        try:
            ts = _ms(candidate, *rest)
        except ValueError:  # 29 February
            continue
        if ts <= reference_ms + DAY_MS:
            return ts
    raise ValueError(rest)


def _iso(line: str, _: int) -> Recognised | None:
    if not (m := _ISO.search(line[:HEAD_CHARACTERS])):
        return None
    rest = [int(part) for part in m.groups()[1:6]]
    ts = _ms(int(m[1]), *rest, fraction=m[7] or "", zone=m[8] or "")
    priority = _PRIORITY.match(line)
    level = SYSLOG_LEVELS[int(priority[1]) & 7] if priority else _level_after(line, m.end())
    if level is None:
        level = _level(line[: m.start()])
    request = _OPENSTACK_REQUEST.search(line, m.end(), m.end() + HEAD_CHARACTERS)
    return Recognised(ts, level, {"request_id": request[1]} if request else {})


_READERS: tuple[Callable[[str, int], Recognised | None], ...] = (
    _json,
    _apache_error,
    _apache_access,
    _hdfs,
    _slashed,
    _syslog,
    _iso,
)
