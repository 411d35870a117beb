"""The log-service door, its reading side (log-service.md §3, §4): /api/v1/logs.

An application of its own below /api/v1, because its errors have a shape of their own.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.backend.body import read_body, require_json
from apps.backend.context import Context, context, query_int, require
from apps.backend.errors import JSON, LOG_SERVICE
from tracehub.protocol.errors import InvalidId, NotFound
from tracehub.protocol.filters import (
    LogFilter,
    Paging,
    Position,
    from_json,
    from_query,
    read_cursor,
    write_cursor,
)  # fmt: skip
from tracehub.protocol.grants import READ, Caller, Door
from tracehub.protocol.lenient import load_json
from tracehub.protocol.logentry import stored_entry
from tracehub.protocol.times import unix_ms

BASE = "/api/v1"
BELOW = f"{BASE}/"
DOOR = Door("logs")
FILTER_BYTES_MAX = 256 * 1024
AROUND, AROUND_MAX = 15, 100
_UUID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}").fullmatch
_ULID = re.compile(r"[0-7][0-9a-hjkmnp-tv-zilo]{25}", re.IGNORECASE).fullmatch
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MISREAD = str.maketrans("ILO", "110")


async def logs(request: Request) -> Response:
    """GET /logs?<filter>."""
    caller = require(request, READ, door=DOOR)
    return await _answered(request, caller, *from_query(request.query_params.multi_items()))


async def query(request: Request) -> Response:
    """POST /logs/query, the filter as JSON."""
    caller = require(request, READ, door=DOOR)
    require_json(request)
    body = await read_body(request, context(request).settings.body_timeout_s, FILTER_BYTES_MAX)
    return await _answered(request, caller, *from_json(load_json(body)))


async def log_by_id(request: Request) -> Response:
    """GET /logs/{id}."""
    return _success(stored_entry(await _asked_row(request)))


async def around(request: Request) -> Response:
    """GET /logs/{id}/around: the lines of the same service before and after one."""
    search, row = context(request).search, await _asked_row(request)
    tenant_id = str(row["tenant_id"])
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
    caller = require(request, READ, door=DOOR)
    row = await context(request).search.entry(caller.readable_tenant, read_id(request.path_params["id"]))
    if row is None or not caller.may_touch(row["service"]):
        raise NotFound("Log entry not found")
    return row


def _place(row: dict[str, Any]) -> Position:
    return Position(unix_ms(row["ts"]), row["id"].bytes)


async def _answered(request: Request, caller: Caller, wanted: LogFilter, paging: Paging) -> Response:
    ctx, tenant_id = context(request), caller.readable_tenant
    if caller.app_key is not None:
        wanted = wanted.within_service(caller.app_key)
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


def read_id(text: str) -> uuid.UUID:
    """A UUID or a ULID, as people write them. Raises InvalidId."""
    if _UUID(text):
        return uuid.UUID(text)
    plain = text.replace("-", "")
    if not _ULID(plain):
        raise InvalidId
    value = 0
    for letter in plain.upper().translate(_MISREAD):
        value = value << 5 | _CROCKFORD.index(letter)
    return uuid.UUID(int=value)


def _success(data: Any, meta: dict[str, Any] | None = None) -> JSON:
    return JSON({"success": True, "data": data, **({"meta": meta} if meta else {})})


def application(ctx: Context, more: Sequence[Route] = ()) -> Starlette:
    """What answers below /api/v1: this door, and `more` routes with the same shape of errors."""
    made = Starlette(
        routes=[
            Route(f"{BASE}/logs", logs, methods=["GET"]),
            Route(f"{BASE}/logs/query", query, methods=["POST"]),
            Route(f"{BASE}/logs/{{id}}", log_by_id, methods=["GET"]),
            Route(f"{BASE}/logs/{{id}}/around", around, methods=["GET"]),
            *more,
        ],
        exception_handlers=LOG_SERVICE.handlers(),
    )
    made.router.redirect_slashes = False
    made.state.context = ctx
    return made
