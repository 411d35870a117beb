"""Times as they are written and read (log-service.md §1.3). Inside everything is Unix milliseconds."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS

_UNIX = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_cut = re.compile(r"(\.\d{6})\d+").sub
_decode = msgspec.json.Decoder(datetime).decode


def iso(ms: int) -> str:
    """Unix milliseconds as `YYYY-MM-DDTHH:MM:SS.mmmZ`."""
    return f"{_second(ms // 1000)}.{ms % 1000:03d}Z"


@lru_cache(maxsize=256)  # most times that are shown are of the same few seconds
def _second(seconds: int) -> str:
    # Not strftime, whose years before 1000 have fewer than four digits.
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="seconds")


def unix_ms(moment: datetime) -> int:
    """Milliseconds since 1970; a missing zone is UTC; digits below the millisecond are cut."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _UNIX) // _MS


def moment_of(ms: int) -> datetime:
    """The other way round, exactly."""
    return _UNIX + ms * _MS


def parse_time(text: str) -> int:
    """RFC 3339, also with a space for the `T` and without a zone (then UTC). Raises ValueError."""
    try:
        return unix_ms(_decode(json.dumps(_cut(r"\1", text))))  # more digits would be rounded
    except (msgspec.DecodeError, OverflowError) as error:
        raise ValueError("not a readable RFC 3339 time") from error


def parse_iso(text: str) -> int:
    """Also what else ISO 8601 knows: a date alone, hours and minutes, no dashes, weeks, a comma. Raises ValueError."""
    try:
        return parse_time(text)
    except ValueError:
        return unix_ms(datetime.fromisoformat(text))
