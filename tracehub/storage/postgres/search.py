"""Reading logs: a filter as SQL, pages by number and by position, one entry by its id.

The text of a query depends on which conditions there are, never on what is in them: every value is an argument.
The order is (ts, id); a position goes on exactly behind a row whatever was written meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from tracehub.protocol.errors import QueryTimeout
from tracehub.protocol.filters import SHOWN, LogFilter, Position
from tracehub.protocol.ranges import Ranges
from tracehub.protocol.times import moment_of, unix_ms
from tracehub.storage.postgres.failures import translated
from tracehub.storage.postgres.queries import SQL

COUNT_EXACT_MAX = 1_000_000
QUERY_TIMEOUT_S = 10.0


Fetch = Callable[[str, list[Any]], Awaitable[list[dict[str, Any]]]]


class Conditions:
    """A WHERE clause in the making. `args`: those of a query that it becomes a part of."""

    def __init__(self, tenant_id: str | None, args: list[Any] | None = None) -> None:
        self.args: list[Any] = [] if args is None else args
        self._parts = [f"tenant_id = {self.put(uuid.UUID(tenant_id))}"] if tenant_id else []

    def put(self, value: Any) -> str:
        """The placeholder of an argument."""
        self.args.append(value)
        return f"${len(self.args)}"

    def add(self, part: str) -> None:
        self._parts.append(part)

    def __str__(self) -> str:
        return " and ".join(self._parts) or "true"


class LogSearch:
    """Tenant None: all of them. Raises Transient when Postgres is out of reach, QueryTimeout after QUERY_TIMEOUT_S."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(
        self,
        tenant_id: str | None,
        wanted: LogFilter,
        *,
        limit: int,
        ascending: bool = False,
        after: Position | None = None,
        skip: int = 0,
    ) -> list[dict[str, Any]]:
        """At most `limit` rows, behind `after` or from the `skip`th on."""
        where = where_of(tenant_id, wanted)
        order = "" if ascending else " desc"
        if after is not None:
            _go_on(where, after, ascending=ascending)
        text = f"{SQL.select_logs} where {where} order by ts{order}, id{order} limit {where.put(limit)}"
        if skip:
            text += f" offset {where.put(skip)}"
        return await self.fetch(text, where.args)

    async def count(self, tenant_id: str | None, wanted: LogFilter) -> tuple[int, bool]:
        """How many rows match, and whether that is only an estimate."""
        where = where_of(tenant_id, wanted)
        found = (await self.fetch(SQL.count_logs.format(where, COUNT_EXACT_MAX + 1), where.args))[0]["n"]
        if found <= COUNT_EXACT_MAX:
            return int(found), False
        plan = await self.fetch(SQL.plan_logs.format(where), where.args)
        return max(int(found), _planned_rows(plan[0]["QUERY PLAN"])), True

    async def created_ms(self, tenant_id: str, entry_id: bytes) -> int | None:
        """When a row was written, in Unix milliseconds."""
        row = await self.entry(tenant_id, uuid.UUID(bytes=entry_id))
        return None if row is None else unix_ms(row["created_at"])

    async def entry(self, tenant_id: str | None, entry_id: uuid.UUID) -> dict[str, Any] | None:
        """One row."""
        where = Conditions(tenant_id)
        where.add(f"id = {where.put(entry_id)}")
        rows = await self.fetch(f"{SQL.select_logs} where {where}", where.args)
        return rows[0] if rows else None

    async def stretch(self, tenant_id: str, stream_id: int, ranges: Ranges) -> list[dict[str, Any]]:
        """A tenant's rows of these numbers of a stream, in their order."""
        bounds = [[first for first, _ in ranges], [last for _, last in ranges]]
        return await self.fetch(f"{SQL.select_logs} {SQL.stretch}", [stream_id, *bounds, tenant_id])

    async def fetch(self, text: str, args: list[Any]) -> list[dict[str, Any]]:
        """Within QUERY_TIMEOUT_S, the wait for a connection included."""
        with translated():
            try:
                async with asyncio.timeout(QUERY_TIMEOUT_S), self._pool.acquire() as connection:
                    return [dict(row) for row in await connection.fetch(text, *args)]
            except TimeoutError:  # asyncpg has cancelled it in Postgres, too
                raise QueryTimeout(retry_after_s=1) from None


def where_of(tenant_id: str | None, wanted: LogFilter, where: Conditions | None = None) -> Conditions:
    """The conditions of a filter."""
    where = Conditions(tenant_id) if where is None else where
    for column, values in wanted.exact:
        where.add(f"{_expression(column)} = any({where.put(list(values))}::text[])")
    for column, text in wanted.parts:
        where.add(f"{_expression(column)} ilike {where.put(f'%{_literal(text)}%')}")
    if wanted.severities is not None:
        ranges = [f"severity between {first} and {last}" for first, last in wanted.severities]
        where.add(f"({' or '.join(ranges) or 'false'})")
    if wanted.start_ms is not None:
        where.add(f"ts >= {where.put(moment_of(wanted.start_ms))}")
    if wanted.end_ms is not None:
        where.add(f"ts <= {where.put(moment_of(wanted.end_ms))}")
    if wanted.search:
        where.add(f"message ilike {where.put(f'%{_literal(wanted.search)}%')}")
    for key, texts in wanted.metadata:
        any_of = f"any({where.put(list(texts))}::jsonb[])"
        literal, path = where.put(key), where.put(key.split("."))
        where.add(f"(attrs -> {literal} = {any_of} or attrs #> {path}::text[] = {any_of})")
        # The same once more, weaker, in words that the index of a closed partition knows.
        holders = [
            f"attrs @> {where.put(_holding(way, text))}::jsonb" for way in _ways(key) for text in texts
        ]
        where.add(f"({' or '.join(holders)})")
    return where


def _expression(column: str) -> str:
    """A column, or what the logstream door shows for it. Both come from filters.py, never from an asker."""
    if column not in SHOWN:
        return column
    names, otherwise = SHOWN[column]
    return f"coalesce({', '.join(names)}, '{otherwise}')"


def _ways(key: str) -> list[list[str]]:
    """A key as it stands, and as a path."""
    path = key.split(".")
    return [[key], path] if len(path) > 1 else [[key]]


def _holding(way: list[str], text: str) -> str:
    """A document that has nothing but this value at this place."""
    for step in reversed(way):
        text = f"{{{json.dumps(step)}:{text}}}"
    return text


def _go_on(where: Conditions, after: Position, *, ascending: bool) -> None:
    """The first condition is what an index and the choice of partitions can use."""
    sign = ">" if ascending else "<"
    ts, entry_id = where.put(moment_of(after.ts_ms)), where.put(uuid.UUID(bytes=after.id))
    where.add(f"ts {sign}= {ts}")
    where.add(f"(ts, id) {sign} ({ts}, {entry_id})")


def _literal(text: str) -> str:
    """Text in which LIKE sees no signs of its own."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _planned_rows(plan: str) -> int:
    return int(json.loads(plan)[0]["Plan"]["Plan Rows"])
