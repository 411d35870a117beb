"""The log-service door, its reading side (log-service.md §3, §4): /api/v1/logs.

An application of its own below /api/v1, because its errors have a shape of their own.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.backend.body import read_body, require_json
from apps.backend.context import Context, caller_of, context, query_int, tenant_of
from apps.backend.errors import JSON, LOG_SERVICE
from apps.backend.writing import Written, read_once, write
from tracehub.protocol.errors import NotFound, Unavailable
from tracehub.protocol.fields import read_id, read_json
from tracehub.protocol.filters import (
    LogFilter,
    Paging,
    Position,
    from_json,
    from_query,
    read_cursor,
    write_cursor,
)  # fmt: skip
from tracehub.protocol.logentry import log_entry, stored_entry
from tracehub.protocol.logservice import Given, read_batch, read_one
from tracehub.protocol.messages import Entry, id_of
from tracehub.protocol.times import unix_ms

BASE = "/api/v1"
BELOW = f"{BASE}/"
DOOR = "logs"
FILTER_BYTES_MAX = 256 * 1024
WRITE_BYTES_MAX = 10 * 1024 * 1024
AROUND, AROUND_MAX = 15, 100


async def logs(request: Request) -> Response:
    """GET /logs?<filter>."""
    return await _answered(request, *from_query(request.query_params.multi_items()))


async def write_one(request: Request) -> Response:
    """POST /logs: the stored entry; of an id that is stored already, that one."""
    ctx = context(request)
    written = await _written(request, read_one)
    if written.outcome.accepted or not written.outcome.duplicates + written.outcome.conflicts:
        return _stored(written, log_entry(written.request, 0, written.created_ms))
    own = written.request.entries[0].own
    assert own is not None
    row = await ctx.search.entry(own.tenant_id, uuid.UUID(bytes=id_of(written.request, 0)))
    if row is None:
        raise Unavailable("the entry with this id is being removed; send it again", retry_after_s=1)
    return _stored(written, stored_entry(row))


async def write_batch(request: Request) -> Response:
    """POST /logs/batch: how many are stored, and how many of them were stored before."""
    written = await _written(request, read_batch)
    answer = {"count": len(written.request.entries)}
    if again := written.outcome.duplicates + written.outcome.conflicts:
        answer["duplicates"] = again
    return _stored(written, answer)


async def _written(request: Request, read: Callable[..., list[Entry]]) -> Written:
    ctx, caller = context(request), caller_of(request)
    require_json(request)
    body = await read_body(request, ctx.settings.body_timeout_s, WRITE_BYTES_MAX)
    once = read_once(request, caller, body)
    document = read_json(body)
    return await write(
        ctx,
        caller,
        lambda now_ms, _: read(document, Given(now_ms, lambda _: "", caller.app_key)),
        door=DOOR,
        once=once,
    )


def _stored(written: Written, data: Any) -> JSON:
    return JSON(
        {"success": True, "data": data}, 201, {"Idempotency-Replayed": "true"} if written.replayed else {}
    )


async def query(request: Request) -> Response:
    """POST /logs/query, the filter as JSON."""
    require_json(request)
    body = await read_body(request, context(request).settings.body_timeout_s, FILTER_BYTES_MAX)
    return await _answered(request, *from_json(read_json(body)))


async def log_by_id(request: Request) -> Response:
    """GET /logs/{id}."""
    return _success(stored_entry(await _asked_row(request)))


async def around(request: Request) -> Response:
    """GET /logs/{id}/around: the lines of the same service before and after one."""
    search, tenant_id = context(request).search, tenant_of(request)
    row = await _asked_row(request)
    lines = max(1, query_int(request, "lines", AROUND, AROUND_MAX))
    here = _place(row)
    same = LogFilter(exact=(("service", (row["service"],)),))
    before = await search.page(tenant_id, same, limit=lines, after=here)
    after = await search.page(tenant_id, same, limit=lines, after=here, ascending=True)
    return _success(
        {"before": [stored_entry(r) for r in reversed(before)], "after": [stored_entry(r) for r in after]}
    )


async def _asked_row(request: Request) -> dict[str, Any]:
    """The row of the id in the path. Raises InvalidId, NotFound."""
    row = await context(request).search.entry(tenant_of(request), read_id(request.path_params["id"]))
    if row is None:
        raise NotFound("Log entry not found")
    return row


def _place(row: dict[str, Any]) -> Position:
    return Position(unix_ms(row["ts"]), row["id"].bytes)


async def _answered(request: Request, wanted: LogFilter, paging: Paging) -> Response:
    ctx, tenant_id = context(request), tenant_of(request)
    after, skip = None, 0
    if paging.cursor:
        after = read_cursor(paging.cursor, wanted, ascending=paging.ascending)
    elif paging.cursor is None:
        skip = (paging.page - 1) * paging.page_size
    rows = await ctx.search.page(
        tenant_id, wanted, limit=paging.page_size + 1, ascending=paging.ascending, after=after, skip=skip
    )
    total, estimated = await ctx.search.count(tenant_id, wanted) if paging.count else (None, False)
    shown = rows[: paging.page_size]
    has_more = len(rows) > len(shown)
    cursor = None
    if has_more:
        cursor = write_cursor(_place(shown[-1]), wanted, ascending=paging.ascending)
    answer = {
        "entries": [stored_entry(row) for row in shown],
        "total_count": total,
        "page": paging.page,
        "page_size": paging.page_size,
        "has_more": has_more,
        "next_cursor": cursor,
    }
    return _success(answer, {"estimated": True} if estimated else None)


def _success(data: Any, meta: dict[str, Any] | None = None) -> JSON:
    return JSON({"success": True, "data": data, **({"meta": meta} if meta else {})})


def application(ctx: Context) -> Starlette:
    """What answers below /api/v1."""
    made = Starlette(
        routes=[
            Route(f"{BASE}/logs", logs, methods=["GET"]),
            Route(f"{BASE}/logs", write_one, methods=["POST"]),
            Route(f"{BASE}/logs/batch", write_batch, methods=["POST"]),
            Route(f"{BASE}/logs/query", query, methods=["POST"]),
            Route(f"{BASE}/logs/{{id}}", log_by_id, methods=["GET"]),
            Route(f"{BASE}/logs/{{id}}/around", around, methods=["GET"]),
        ],
        exception_handlers=LOG_SERVICE.handlers(),
    )
    made.router.redirect_slashes = False
    made.state.context = ctx
    return made
