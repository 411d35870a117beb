"""Answers about logs: remembered for a moment, and each with what the ledger knows about its window."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from apps.backend.context import Context, context
from apps.backend.errors import JSON
from tracehub.pipeline.completeness import completeness
from tracehub.protocol.errors import Transient
from tracehub.protocol.filters import LogFilter, Position, write_cursor
from tracehub.protocol.grants import Caller
from tracehub.protocol.times import unix_ms
from tracehub.storage.postgres.counting import is_counted

CLOSED_AFTER_MS: Final = 5 * 60 * 1000

# Data and meta of an answer.
Make = Callable[[], Awaitable[tuple[Any, dict[str, Any]]]]


def success(data: Any, meta: dict[str, Any] | None = None, status: int = 200) -> JSON:
    """An answer in the log service's shape."""
    return JSON({"success": True, "data": data, **({"meta": meta} if meta else {})}, status)


def scoped(wanted: LogFilter, caller: Caller) -> LogFilter:
    """A filter as far as the caller's key reaches: one that is bound to a service sees no other."""
    return wanted.of_service(caller.app_key)


async def answer(  # noqa: PLR0917 - who asks, what, and how it is found
    request: Request, caller: Caller, question: str, wanted: LogFilter, make: Make
) -> Response:
    """What `make` finds, or found a moment ago. `question` tells it from others with the same filter.

    An answer about all tenants is made anew each time: what is remembered belongs to a tenant.
    """
    ctx = context(request)
    known = await known_of(ctx, caller, wanted)
    if caller.all_tenants:
        data, meta = await make()
        return success(data, {**meta, "completeness": known})
    slot = found = None
    if "no-cache" not in request.headers.get("cache-control", "").lower():
        slot, found = await ctx.cache.look(caller.tenant_id, f"{question}\0{wanted!r}\0{caller.app_key}")
    hit = found is not None
    if found is None:
        data, meta = await make()
        found = orjson.dumps(data) + b"\n" + orjson.dumps(meta)
        if slot is not None:
            is_open = wanted.end_ms is None or wanted.end_ms > ctx.clock() - CLOSED_AFTER_MS
            await ctx.cache.remember(slot, found, is_open=is_open)
    data_text, _, meta_text = found.rpartition(b"\n")
    meta_told = orjson.dumps({**orjson.loads(meta_text), "completeness": known})
    body = b'{"success":true,"data":' + data_text + b',"meta":' + meta_told + b"}"
    return Response(body, 200, {"X-Cache": "hit" if hit else "miss"}, "application/json")


async def known_of(ctx: Context, caller: Caller, wanted: LogFilter) -> dict[str, Any]:
    """What the ledger knows about the window and the services of a question."""
    try:
        marks = (await ctx.queue.marks()).values()
    except Transient:
        marks = None
    services = dict(wanted.exact).get("service")
    window = (wanted.start_ms, wanted.end_ms)
    known = await completeness(
        ctx.reading, marks, caller.readable_tenant, services=services, window_ms=window
    )
    return known.shown()


def place_of(row: dict[str, Any]) -> Position:
    """Where a row stands in the order."""
    return Position(unix_ms(row["ts"]), row["id"].bytes)


def page_of(
    rows: list[dict[str, Any]], wanted: LogFilter, size: int, *, ascending: bool
) -> tuple[list[dict[str, Any]], str | None]:
    """What is shown of rows of which one more was asked for, and where the next page begins."""
    if len(rows) <= size:
        return rows, None
    return rows[:size], write_cursor(place_of(rows[size - 1]), wanted, ascending=ascending)


async def total_of(ctx: Context, tenant_id: str | None, wanted: LogFilter) -> tuple[int, bool]:
    """How many entries match, and whether that is only an estimate."""
    if is_counted(wanted):
        return await ctx.counts.total(tenant_id, wanted), False
    return await ctx.search.count(tenant_id, wanted)
