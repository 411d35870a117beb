"""Counting logs: statistics, aggregates over time, names of services, a tenant's share of the disk.

Questions about services, levels and times alone are answered from the counts by the hour, exact in every snapshot;
only the hours that a range cuts are counted row by row, as is every other question. Raises Transient, QueryTimeout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from tracehub.protocol.errors import InvalidField
from tracehub.protocol.filters import LogFilter
from tracehub.protocol.times import DAY_MS, HOUR_MS, moment_of, unix_ms
from tracehub.storage.postgres.queries import SQL
from tracehub.storage.postgres.search import Conditions, Fetch, where_of

GROUPS_MAX: Final = 100
SERVICES_MAX: Final = 1_000
COUNTS_MAX: Final = 250_000  # of one answer: what is added up here keeps others waiting
OTHER: Final = "__other__"
INTERVALS_MS: Final = {"minute": 60_000, "hour": HOUR_MS, "day": DAY_MS}
# What people may group by, and the column of logs; `severity` is answered as the word of its level.
GROUPS: Final = {
    "service_name": "service",
    "level": "severity",
    "environment": "environment",
    "host": "host",
    "category": "category",
    "app_id": "app_id",
    "door": "door",
}


class Counted(NamedTuple):
    """A bucket (Unix ms) and a group: severity to entries."""

    bucket_ms: int
    group: Any
    severities: dict[int, int]


@dataclass(frozen=True, slots=True)
class Storage:
    """A tenant's share of all partitions with their indexes."""

    bytes: int
    rows: int


class LogCounts:
    """`fetch` runs a query within its time. Tenant None: all of them."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    async def by_time(
        self, tenant_id: str | None, wanted: LogFilter, interval: str, group: str | None = None
    ) -> list[Counted]:
        """Ascending; `group` is a column of logs, or "metadata.<key>". Raises InvalidField: too much."""
        if interval != "minute" and is_counted(wanted):
            if group in {None, "severity"}:
                return await self._by_severity(tenant_id, wanted, interval, apart=group is not None)
            if group == "service":
                return await self._services_by_time(tenant_id, wanted, interval)
        text, args = _raw_source(tenant_id, wanted, interval, group)
        column = {None: "null::text", "severity": "severity::text"}.get(group, "grp")
        query = SQL.aggregate_counts.format(source=text, group=column, groups=GROUPS_MAX, most=COUNTS_MAX + 1)
        rows = await self._fetch(query, args)
        _refuse_many(len(rows))
        counted = []
        for row in rows:
            name = OTHER if row["other"] else row["grp"]
            counted.append(Counted(unix_ms(row["bucket"]), name, _summed(row["severities"], row["entries"])))
        return _in_order(counted)

    async def _by_severity(
        self, tenant_id: str | None, wanted: LogFilter, interval: str, *, apart: bool
    ) -> list[Counted]:
        """From the counts; `apart`: each severity is a group."""
        text, args = _counted_source(tenant_id, wanted, by_day=interval == "day")
        rows = await self._fetch(SQL.counts_over_time.format(source=text, bucket=_bucket(interval)), args)
        found: dict[tuple[int, str | None], dict[int, int]] = {}
        for row in rows:
            severity = row["severity"]
            place = (unix_ms(row["bucket"]), str(severity) if apart else None)
            found.setdefault(place, {})[severity] = row["entries"]
        return _in_order([Counted(moment, name, levels) for (moment, name), levels in found.items()])

    async def _services_by_time(
        self, tenant_id: str | None, wanted: LogFilter, interval: str
    ) -> list[Counted]:
        """From the counts, which are few enough by the day to say at once which services are the largest."""
        text, args = _counted_source(tenant_id, wanted)
        query = SQL.largest_groups.format(source=text, groups=GROUPS_MAX + 1)
        names = [row["grp"] for row in await self._fetch(query, args)]
        text, args = _counted_source(tenant_id, wanted, by_day=interval == "day")
        if len(names) > GROUPS_MAX:
            text = SQL.rest_as_one.format(source=text, names=f"${len(args) + 1}")
            args = [*args, names[:GROUPS_MAX]]
        query = SQL.counts_over_time_by_group.format(
            source=text, bucket=_bucket(interval), most=COUNTS_MAX + 1
        )
        rows = await self._fetch(query, args)
        _refuse_many(sum(len(row["entries"]) for row in rows))
        counted = []
        for row in sorted(rows, key=lambda row: row["bucket"]):
            by_name: dict[str | None, dict[int, int]] = {}
            for name, severity, entries in zip(row["names"], row["severities"], row["entries"], strict=True):
                levels = by_name.setdefault(name, {})
                levels[severity] = levels.get(severity, 0) + entries
            moment = unix_ms(row["bucket"])
            rest = by_name.pop(None, {})
            for name in sorted(filter(None, by_name)):
                counted.append(Counted(moment, name, by_name[name]))
            counted.append(Counted(moment, OTHER, rest))
        return _there(counted)

    async def by_service(
        self, tenant_id: str | None, wanted: LogFilter
    ) -> tuple[dict[int, int], dict[str, int]]:
        """Severity to entries, and service to entries (the SERVICES_MAX largest)."""
        if is_counted(wanted):
            text, args = _counted_source(tenant_id, wanted)
        else:
            text, args = _raw_source(tenant_id, wanted, "day", "service")
        rows = await self._fetch(SQL.count_by_service.format(source=text), args)
        levels: dict[int, int] = {}
        services: dict[str, int] = {}
        for row in rows:
            levels[row["severity"]] = levels.get(row["severity"], 0) + row["entries"]
            services[row["service"]] = services.get(row["service"], 0) + row["entries"]
        largest = sorted(services.items(), key=lambda item: (-item[1], item[0]))[:SERVICES_MAX]
        return levels, dict(largest)

    async def total(self, tenant_id: str | None, wanted: LogFilter) -> int:
        """How many entries there are of a question that is counted."""
        text, args = _counted_source(tenant_id, wanted)
        rows = await self._fetch(SQL.count_total.format(source=text), args)
        return int(rows[0]["entries"] or 0)

    async def services(self, tenant_id: str | None, service: str | None = None) -> list[str]:
        """The names, sorted; all, or one if it is there."""
        return [row["service"] for row in await self._fetch(SQL.service_names, [tenant_id, service])]

    async def storage(self, tenant_id: str | None, service: str | None = None) -> Storage:
        """By bytes of what is counted (of one service, or all); retention goes by the same."""
        if service is None:
            row = (await self._fetch(SQL.storage_share, [tenant_id]))[0]
        else:
            row = (await self._fetch(SQL.storage_share_of_service, [tenant_id, service]))[0]
        return Storage(int(row["bytes"]), int(row["entries"]))


def _refuse_many(counts: int) -> None:
    if counts > COUNTS_MAX:
        raise InvalidField(
            f"the answer would be made of more than {COUNTS_MAX} counts: ask for less, or for a longer interval",
            field="interval",
        )


def _bucket(interval: str) -> str:
    """Where a count belongs; those that a shorter interval would tell apart are not by the day yet."""
    return "date_trunc('day', moment, 'UTC')" if interval == "day" else "moment"


def _summed(severities: list[int], entries: list[int]) -> dict[int, int]:
    sums: dict[int, int] = {}
    for severity, many in zip(severities, entries, strict=True):
        sums[severity] = sums.get(severity, 0) + many
    return sums


def _there(counted: list[Counted]) -> list[Counted]:
    """Without what is gone: changes that are not folded yet may take away all that was counted."""
    for c in counted:
        if min(c.severities.values(), default=0) <= 0:
            for severity in [severity for severity, entries in c.severities.items() if entries <= 0]:
                del c.severities[severity]
    return [c for c in counted if c.severities]


def _in_order(counted: list[Counted]) -> list[Counted]:
    return sorted(counted, key=lambda c: (c.bucket_ms, c.group == OTHER, c.group or ""))


def is_counted(wanted: LogFilter) -> bool:
    """Whether the counts by the hour can answer."""
    others = wanted.search or wanted.metadata or wanted.parts
    return not others and all(column == "service" for column, _ in wanted.exact)


def _raw_source(
    tenant_id: str | None, wanted: LogFilter, interval: str, group: str | None
) -> tuple[str, list[Any]]:
    where = where_of(tenant_id, wanted)
    column = "null::text"
    if group is not None and group.startswith("metadata."):
        key = group.removeprefix("metadata.")
        literal, path = where.put(key), where.put(key.split("."))
        column = f"coalesce(attrs ->> {literal}, attrs #>> {path}::text[])"
    elif group is not None:
        column = f"{group}::text"
    return SQL.counts_of_rows.format(interval=interval, group=column, where=where), where.args


def _counted_source(
    tenant_id: str | None, wanted: LogFilter, *, by_day: bool = True
) -> tuple[str, list[Any]]:
    """Whole days and hours from the counts, the rest from the rows. `by_day`: hours need not be told apart."""
    args: list[Any] = []
    plain = replace(wanted, start_ms=None, end_ms=None)
    days, hours, rows = _pieces(wanted, by_day=by_day)
    parts: list[str] = []
    for query, column, spans in (
        (SQL.counts_of_days, "day", days),
        (SQL.counts_of_hours, "hour", hours),
        (SQL.counts_of_changes, "hour", [*days, *hours]),
    ):
        for span in spans:
            where = where_of(tenant_id, plain, Conditions(tenant_id, args))
            if span.first_ms is not None:
                where.add(f"{column} >= {where.put(moment_of(span.first_ms))}")
            if span.end_ms is not None:
                where.add(f"{column} < {where.put(moment_of(span.end_ms))}")
            parts.append(query.format(where=where))
    for span in rows:
        last_ms = None if span.end_ms is None else span.end_ms - 1
        edge = replace(wanted, start_ms=span.first_ms, end_ms=last_ms)
        where = where_of(tenant_id, edge, Conditions(tenant_id, args))
        parts.append(SQL.counts_of_rows.format(interval="hour", group="service", where=where))
    return " union all ".join(parts), args


@dataclass(frozen=True, slots=True)
class _Span:
    """From a moment on, until before another (Unix ms); None: without a bound."""

    first_ms: int | None
    end_ms: int | None


def _pieces(wanted: LogFilter, *, by_day: bool) -> tuple[list[_Span], list[_Span], list[_Span]]:
    """A range as whole days, whole hours beside them, and what is left of hours that it cuts."""
    span = _Span(wanted.start_ms, None if wanted.end_ms is None else wanted.end_ms + 1)
    hours, rows = _cut(span, HOUR_MS)
    if not by_day or not hours:
        return [], hours, rows
    days, beside = _cut(hours[0], DAY_MS)
    return days, beside, rows


def _cut(span: _Span, step_ms: int) -> tuple[list[_Span], list[_Span]]:
    """The part of a span that is made of whole steps (one, or none), and the parts beside it."""
    first = None if span.first_ms is None else -(-span.first_ms // step_ms) * step_ms
    end = None if span.end_ms is None else span.end_ms // step_ms * step_ms
    if first is not None and end is not None and first >= end:
        return [], [span]
    beside = []
    if first != span.first_ms:
        beside.append(_Span(span.first_ms, first))
    if end != span.end_ms:
        beside.append(_Span(end, span.end_ms))
    return [_Span(first, end)], beside


def level_counts(counts: Mapping[int, int], word_of: Any) -> dict[str, int]:
    """Severity numbers to the words of a door."""
    words: dict[str, int] = {}
    for severity, entries in sorted(counts.items()):
        word = word_of(severity)
        words[word] = words.get(word, 0) + entries
    return words
