"""The logstream door (logstream.md): POST and GET /api/logs, /api/health. Its WebSocket is in logstream_socket.py."""

from __future__ import annotations

import contextlib
from dataclasses import astuple
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.backend.answers import page_of, scoped, total_of
from apps.backend.body import aside, read_body
from apps.backend.context import Context, context, mended, require
from apps.backend.doors import logstream_socket
from apps.backend.doors.observe import probe
from apps.backend.errors import JSON, Dialect
from apps.backend.writing import read_once, write
from tracehub.protocol import logstream
from tracehub.protocol.credentials import EVERYWHERE, Kind
from tracehub.protocol.errors import (
    HalfAPair,
    InvalidId,
    InvalidJSON,
    MissingKey,
    NotFound,
    Unauthorized,
    WrongKind,
)
from tracehub.protocol.fields import read_id, read_json
from tracehub.protocol.filters import LogFilter, read_cursor
from tracehub.protocol.grants import READ, WRITE, Caller, Door
from tracehub.protocol.logentry import log_entry, stored_entry
from tracehub.protocol.messages import Entry
from tracehub.protocol.times import iso

BODY_BYTES_MAX: Final = 4 * 1024 * 1024
_TEXTS: Final = {
    "invalid_json": "Invalid JSON body",
    "forbidden": "Forbidden",
    "not_found": "Not found",
    "in_flight": "Request in progress",
    "idempotency_mismatch": "Idempotency-Key was used for another body",
    "too_large": "Payload too large",
    "unsupported_encoding": "Unsupported Content-Encoding",
    "overloaded": "Too many requests",
    "unavailable": "Service unavailable",
    "query_timeout": "Query timed out",
    "invalid_tenant_id": "Invalid tenant ID format",
    "slow_body": "Request timeout",
    "internal": "Internal server error",
}
_FIELDS: Final = {"cursor": "Invalid cursor", "Idempotency-Key": "Invalid Idempotency-Key"}


def _shape(told: dict[str, Any]) -> dict[str, Any]:
    return {"error": _FIELDS.get(told.get("field", ""), _TEXTS.get(told["code"], told["message"]))}


LOGSTREAM = Dialect(_shape)
DOOR: Final = Door(logstream.DOOR, EVERYWHERE | Kind.TOKEN)
_SHARED: Final = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
    (
        b"access-control-allow-headers",
        b"Content-Type, Authorization, X-Api-Key, X-Api-Token, X-App-Key, X-App-Id, X-Tenant-ID, X-Request-ID, "
        b"Idempotency-Key",
    ),
    (b"access-control-max-age", b"600"),
)


async def health(request: Request) -> Response:
    """GET /api/health: whether the stores answer, and how many sockets are open."""
    ctx = context(request)
    is_well = all((await probe(ctx)).values())
    told = {
        "status": "ok" if is_well else "degraded",
        "time": iso(ctx.clock()),
        "ws_connections": ctx.sockets.count(),
    }
    return JSON(told, 200 if is_well else 503)


def _writer(request: Request) -> Caller:
    """Who writes. Raises _Refused, which says why, and Forbidden (tenant)."""
    try:
        return require(request, WRITE, door=DOOR)
    except HalfAPair:
        raise _Refused("Missing X-Api-Key or X-Api-Token header") from None
    except MissingKey:
        raise _Refused("Missing Authorization header or token query parameter") from None
    except (Unauthorized, WrongKind):
        raise _Refused("Invalid API secret") from None


def _reader(request: Request) -> Caller:
    """Who reads. Raises _Refused without a reason, and Forbidden (tenant)."""
    try:
        return require(request, READ, door=DOOR)
    except (Unauthorized, WrongKind):
        raise _Refused from None


class _Refused(Exception):
    """No key, or none for this."""

    def __init__(self, reason: str = "") -> None:
        self.told = {"error": "Unauthorized", **({"reason": reason} if reason else {})}


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, _Refused)
    return JSON(error.told, 401, {"WWW-Authenticate": "Bearer"})


async def write_logs(request: Request) -> Response:
    """POST /api/logs: store an entry or many; those that can be are, together, the others are named."""
    ctx, caller = context(request), _writer(request)
    body = await read_body(request, ctx.settings.body_timeout_s, BODY_BYTES_MAX)
    head = logstream.Request(
        app_key=mended(request.headers.get("x-app-key", "")) or None,
        app_id=mended(request.headers.get("x-app-id", "")) or None,
        user_agent=mended(request.headers.get("user-agent", "")) or None,
        writes_as=caller.writes_as,
    )
    once = read_once(request, caller, body, *astuple(head))
    if not body.strip():
        raise InvalidJSON
    document = await aside(read_json, body)
    errors: list[str] = []

    def read(now_ms: int, base: bytes) -> list[Entry]:
        parsed = logstream.parse(document, head, now_ms, base)
        errors[:] = parsed.errors
        return parsed.entries

    written = await write(ctx, caller, read, door=logstream.DOOR, once=once)
    entries = [
        logstream.shown(log_entry(written.request, index, written.created_ms))
        for index in range(len(written.request.entries))
    ]
    headers = {"Idempotency-Replayed": "true"} if written.replayed else {}
    told = {"saved": len(entries), "entries": entries, "errors": errors or None}
    return JSON(told, 201 if entries else 400, headers)


async def read_logs(request: Request) -> Response:
    """GET /api/logs: find entries, newest first."""
    ctx, caller = context(request), _reader(request)
    wanted = scoped(logstream.read_filter(request.query_params.multi_items()), caller)
    paging = logstream.read_paging(request.query_params)
    after = read_cursor(paging.cursor, wanted, ascending=False) if paging.cursor else None
    skip = paging.offset if paging.cursor is None else 0
    rows = await ctx.search.page(caller.tenant_id, wanted, limit=paging.limit + 1, after=after, skip=skip)
    total, _ = await total_of(ctx, caller.tenant_id, wanted)
    shown, next_cursor = page_of(rows, wanted, paging.limit, ascending=False)
    answer: dict[str, Any] = {
        "total": total,
        "limit": paging.limit,
        "offset": skip,
        "entries": [logstream.shown(stored_entry(row)) for row in shown],
    }
    if paging.cursor is not None:
        answer["next_cursor"] = next_cursor
    return JSON(answer)


async def log_by_id(request: Request) -> Response:
    """GET /api/logs/{id}: an entry by its id, or the newest one of a trace."""
    ctx, caller = context(request), _reader(request)
    name = mended(request.path_params["id"])
    row = None
    with contextlib.suppress(InvalidId):
        row = await ctx.search.entry(caller.tenant_id, read_id(name))
    if row is None or not caller.may_touch(row["service"]):
        wanted = scoped(LogFilter(exact=(("trace_id", (name,)),)), caller)
        found = await ctx.search.page(caller.tenant_id, wanted, limit=1)
        if not found:
            raise NotFound
        row = found[0]
    return JSON(logstream.shown(stored_entry(row)))


async def options(_: Request) -> Response:
    """OPTIONS on any path."""
    return Response(status_code=204)


async def _nothing_here(_: Request, error: Exception) -> Response:
    """Unknown paths and methods alike."""
    assert isinstance(error, HTTPException)
    return JSON({"error": "Not found"}, 404)


ROUTES: Final = [
    Route("/api/health", health, methods=["GET"]),
    Route("/api/logs", write_logs, methods=["POST"]),
    Route("/api/logs", read_logs, methods=["GET"]),
    Route("/api/logs/{id:path}", log_by_id, methods=["GET"]),
]


def application(ctx: Context) -> ASGIApp:
    """What answers at /api/… beside the log service, and at /ws."""
    routes = [
        *ROUTES,
        Route("/{path:path}", options, methods=["OPTIONS"]),
        WebSocketRoute("/ws", logstream_socket.socket),
    ]
    made = Starlette(
        routes=routes,
        exception_handlers={**LOGSTREAM.handlers(), HTTPException: _nothing_here, _Refused: _refused},
    )
    made.router.redirect_slashes = False
    made.state.context = ctx
    return _spoken(made)


def _spoken(inner: ASGIApp) -> ASGIApp:
    """A trailing slash is ignored, and every answer may be read by any site's page."""

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_SHARED]
            await send(message)

        if scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/")}
        await inner(scope, receive, tell)

    return outer


def is_below(path: str) -> bool:
    """Whether a path is this door's: all below /api/ that is not the log service's."""
    return path.rstrip("/") == "/ws" or (path.startswith("/api/") and not path.startswith("/api/v1/"))
