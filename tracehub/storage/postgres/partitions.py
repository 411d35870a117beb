"""Partitions of `logs`: which one a time belongs to, and making the absent ones.

Guarantee: `ensure` returns True only when every time it was asked about has a partition. New ones are made in
a transaction of their own under an advisory lock, by CREATE and ATTACH, so that inserts are never blocked
behind a CREATE (ingest.md §3). Names and bounds come from dates alone, never from a user's text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import asyncpg

from tracehub.protocol.times import DAY_MS, unix_ms
from tracehub.storage.postgres.queries import SQL

AHEAD = 3
_NAME = re.compile(r"^logs_(\d{4})_(\d{2})(?:_(\d{2}))?$")


def month_of(ts_ms: int) -> tuple[date, date]:
    """First day of the month of a time, and first day of the next."""
    day = datetime.fromtimestamp(ts_ms / 1000, UTC).date().replace(day=1)
    return day, (day + timedelta(days=32)).replace(day=1)


def day_of(ts_ms: int) -> tuple[date, date]:
    """The day of a time, and the next."""
    day = datetime.fromtimestamp(ts_ms / 1000, UTC).date()
    return day, day + timedelta(days=1)


def bounds_of(name: str) -> tuple[int, int] | None:
    """From when (Unix ms) until before when a partition's entries are; None when it is none of ours."""
    match = _NAME.match(name)
    if not match:
        return None
    year, month, day = match.groups()
    start_ms = unix_ms(datetime(int(year), int(month), int(day or 1), tzinfo=UTC))
    _, end = day_of(start_ms) if day else month_of(start_ms)
    return start_ms, unix_ms(datetime(end.year, end.month, end.day, tzinfo=UTC))


def ahead(now_ms: int, width: str) -> list[int]:
    """A time in each of the partitions that shall be there before anybody needs them: this one and AHEAD more."""
    times = [now_ms]
    for _ in range(AHEAD):
        end = (day_of if width == "day" else month_of)(times[-1])[1]
        times.append(unix_ms(datetime(end.year, end.month, end.day, tzinfo=UTC)))
    return times


class Partitions:
    """Knows the days that have a partition, makes the others. `width` is "month" or "day"."""

    def __init__(self, width: str = "month") -> None:
        self.width = width
        self._days: set[int] = set()  # days since 1970 that are covered

    def forget(self) -> None:
        """Look again next time: somebody dropped a partition."""
        self._days.clear()

    def absent(self, times_ms: Sequence[int]) -> list[int]:
        """One time of each day that is not known to be covered."""
        days = {ts // DAY_MS for ts in times_ms} - self._days
        return [day * DAY_MS for day in sorted(days)]

    async def ensure(
        self, connection: asyncpg.pool.PoolConnectionProxy, times_ms: Sequence[int], most: int
    ) -> bool:
        """Make what is absent, at most `most`, in the caller's transaction; False when some are still absent."""
        await connection.execute(SQL.partition_lock)
        await self._load(connection)
        made = 0
        while (absent := self.absent(times_ms)) and made < most:
            await self._make(connection, absent[0])
            made += 1
        return not absent

    async def _load(self, connection: asyncpg.pool.PoolConnectionProxy) -> None:
        self._days.clear()
        for row in await connection.fetch(SQL.partitions):
            if (bounds := bounds_of(row["name"])) is not None:
                self._days.update(range(bounds[0] // DAY_MS, bounds[1] // DAY_MS))

    async def _make(self, connection: asyncpg.pool.PoolConnectionProxy, ts_ms: int) -> None:
        first, last = day_of(ts_ms) if self.width == "day" else month_of(ts_ms)
        name = f"logs_{first:%Y_%m_%d}" if self.width == "day" else f"logs_{first:%Y_%m}"
        statements = SQL.PARTITION_MAKE.format(
            name=name, first=f"{first} 00:00:00+00", last=f"{last} 00:00:00+00"
        )
        await connection.execute(statements)
        self._cover(first, last)

    def _cover(self, first: date, last: date) -> None:
        epoch = date(1970, 1, 1)
        self._days.update(range((first - epoch).days, (last - epoch).days))
