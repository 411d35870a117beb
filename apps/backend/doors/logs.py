"""The log service's entries (log-service.md §3, §4): written, found, looked up. Below /api/v1."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.backend.answers import answer, page_of, place_of, scoped, success, total_of
from apps.backend.body import aside, read_body, require_json
from apps.backend.context import context, mended, query_int, require
from apps.backend.doors import log_counts, stream
from apps.backend.errors import JSON
from apps.backend.writing import Written, read_once, write
from tracehub.protocol.errors import InvalidRequestId, InvalidTraceId, NotFound, TraceHubError, Unavailable
from tracehub.protocol.fields import read_id, read_json
from tracehub.protocol.filters import (
    LogFilter,
    Paging,
    from_json,
    from_query,
    read_cursor,
)  # fmt: skip
from tracehub.protocol.grants import READ, WRITE, Caller, Door
from tracehub.protocol.limits import TEXT_CHARS_MAX
from tracehub.protocol.logentry import log_entry, stored_entry
from tracehub.protocol.logservice import Given, read_batch, read_one
from tracehub.protocol.messages import Entry, id_of

DOOR = Door("logs")
WRITE_BYTES_MAX = 10 * 1024 * 1024
AROUND, AROUND_MAX = 15, 100
TOGETHER_MAX = 10_000  # entries of a trace or request in one answer


async def logs(request: Request) -> Response:
    """GET /logs: find entries, newest first."""
    caller = require(request, READ, door=DOOR)
    return await _answered(request, caller, *from_query(request.query_params.multi_items()))


async def write_one(request: Request) -> Response:
    """POST /logs: store an entry, which is the answer; of an id that is stored already, that one."""
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
    """POST /logs/batch: store entries, all of them or none; how many, and how many of them were stored before."""
    written = await _written(request, read_batch)
    answer = {"count": len(written.request.entries)}
    if again := written.outcome.duplicates + written.outcome.conflicts:
        answer["duplicates"] = again
    return _stored(written, answer)


async def _written(request: Request, read: Callable[..., list[Entry]]) -> Written:
    ctx, caller = context(request), require(request, WRITE, door=DOOR)
    require_json(request)
    body = await read_body(request, ctx.settings.body_timeout_s, WRITE_BYTES_MAX)
    once = read_once(request, caller, body, caller.writes_as)
    document = await aside(read_json, body)
    return await write(
        ctx,
        caller,
        lambda now_ms, _: read(document, Given(now_ms, caller.tenant_for, caller.writes_as)),
        door=DOOR.name,
        once=once,
    )


def _stored(written: Written, data: Any) -> JSON:
    return JSON(
        {"success": True, "data": data}, 201, {"Idempotency-Replayed": "true"} if written.replayed else {}
    )


async def query(request: Request) -> Response:
    """POST /logs/query: find entries, the filter as JSON."""
    caller = require(request, READ, door=DOOR)
    require_json(request)
    body = await read_body(request, context(request).settings.body_timeout_s, log_counts.FILTER_BYTES_MAX)
    return await _answered(request, caller, *from_json(read_json(body)))


async def log_by_id(request: Request) -> Response:
    """GET /logs/{id}: an entry by its id."""
    return success(stored_entry(await _asked_row(request)))


async def around(request: Request) -> Response:
    """GET /logs/{id}/around: the lines of its service before and after an entry."""
    search, row = context(request).search, await _asked_row(request)
    tenant_id = str(row["tenant_id"])
    lines = max(1, query_int(request, "lines", AROUND, AROUND_MAX))
    here = place_of(row)
    same = LogFilter(exact=(("service", (row["service"],)),))
    before = await search.page(tenant_id, same, limit=lines, after=here)
    after = await search.page(tenant_id, same, limit=lines, after=here, ascending=True)
    return success(
        {"before": [stored_entry(r) for r in reversed(before)], "after": [stored_entry(r) for r in after]}
    )


async def _asked_row(request: Request) -> dict[str, Any]:
    """The row of the id in the path. Raises InvalidId, NotFound."""
    caller = require(request, READ, door=DOOR)
    row = await context(request).search.entry(caller.readable_tenant, read_id(request.path_params["id"]))
    if row is None or not caller.may_touch(row["service"]):
        raise NotFound("Log entry not found")
    return row


async def _answered(request: Request, caller: Caller, wanted: LogFilter, paging: Paging) -> Response:
    ctx = context(request)
    wanted = scoped(wanted, caller)
    after, skip = None, 0
    if paging.cursor:
        after = read_cursor(paging.cursor, wanted, ascending=paging.ascending)
    elif paging.cursor is None:
        skip = (paging.page - 1) * paging.page_size

    async def find() -> tuple[dict[str, Any], dict[str, Any]]:
        rows = await ctx.search.page(
            caller.readable_tenant, wanted, limit=paging.page_size + 1, ascending=paging.ascending, after=after,
            skip=skip,
        )  # fmt: skip
        total, estimated = (
            await total_of(ctx, caller.readable_tenant, wanted) if paging.count else (None, False)
        )
        shown, cursor = page_of(rows, wanted, paging.page_size, ascending=paging.ascending)
        found = {
            "entries": [stored_entry(row) for row in shown],
            "total_count": total,
            "page": paging.page,
            "page_size": paging.page_size,
            "has_more": cursor is not None,
            "next_cursor": cursor,
        }
        return found, {"estimated": True} if estimated else {}

    return await answer(request, caller, f"list {paging!r}", wanted, find)


async def of_trace(request: Request) -> Response:
    """GET /logs/trace/{trace_id}: its entries, oldest first."""
    return await _together(request, "trace_id", InvalidTraceId)


async def of_request(request: Request) -> Response:
    """GET /logs/request/{request_id}: its entries, oldest first."""
    return await _together(request, "request_id", InvalidRequestId)


async def _together(request: Request, column: str, refusal: type[TraceHubError]) -> Response:
    ctx, caller = context(request), require(request, READ, door=DOOR)
    value = mended(request.path_params[column])
    if len(value) > TEXT_CHARS_MAX[column]:
        raise refusal
    wanted = scoped(LogFilter(exact=((column, (value,)),)), caller)
    cursor = request.query_params.get("cursor")
    after = read_cursor(cursor, wanted, ascending=True) if cursor else None
    rows = await ctx.search.page(
        caller.readable_tenant, wanted, limit=TOGETHER_MAX + 1, ascending=True, after=after
    )
    shown, go_on = page_of(rows, wanted, TOGETHER_MAX, ascending=True)
    meta = {"truncated": True, "next_cursor": go_on} if go_on else None
    return success([stored_entry(row) for row in shown], meta)


ROUTES = [
    Route("/logs", logs, methods=["GET"]),
    Route("/logs", write_one, methods=["POST"]),
    Route("/logs/batch", write_batch, methods=["POST"]),
    Route("/logs/query", query, methods=["POST"]),
    Route("/logs/trace/{trace_id:path}", of_trace, methods=["GET"]),
    Route("/logs/request/{request_id:path}", of_request, methods=["GET"]),
    *log_counts.ROUTES,
    *stream.ROUTES,
    Route("/logs/{id}", log_by_id, methods=["GET"]),
    Route("/logs/{id}/around", around, methods=["GET"]),
]
