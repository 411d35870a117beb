"""What the doors of foreign dialects share: OTLP and Loki (log-service.md §8). A body in, entries stored; every error
in the words of the dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.backend.body import aside, header, read_body
from apps.backend.context import Context, context, require
from apps.backend.errors import Told, allowed, told_of
from apps.backend.writing import Written, read_once, write
from tracehub.protocol.drafts import Drafts
from tracehub.protocol.errors import TraceHubError
from tracehub.protocol.grants import WRITE, Door

log = structlog.get_logger()

PROTOBUF, JSON = "application/x-protobuf", "application/json"

Read = Callable[[bytes, int], Drafts]
# An error in the shape of the dialect.
Shape = Callable[[Request, Told], Response]


def type_of(request: Request) -> str:
    """The content type without its parameters, in lower case."""
    return header(request.scope, b"content-type").split(";")[0].strip().lower()


async def store(request: Request, read: Read, *, door: Door, most: int) -> tuple[Drafts, Written]:
    """Read a body of at most `most` bytes, and wait until its entries are committed."""
    ctx, caller = context(request), require(request, WRITE, door=door)
    body = await read_body(request, ctx.settings.body_timeout_s, most)
    once = read_once(request, caller, body, caller.writes_as)
    now_ms = ctx.clock()
    drafts = await aside(lambda given: read(given, now_ms), body)
    return drafts, await write(ctx, caller, lambda *_: drafts.entries, door=door.name, once=once)


def replayed(written: Written) -> dict[str, str]:
    """The header of an answer that was given before."""
    return {"Idempotency-Replayed": "true"} if written.replayed else {}


def application(ctx: Context, routes: Sequence[Route], shape: Shape) -> Starlette:
    """What answers below a path of its own."""

    async def on_ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, TraceHubError)
        told = told_of(error)
        if told.status == 500:
            log.exception("request.failed", error=type(error).__name__)
        if told.status == 408:  # these clients give up for good at any other status that is not theirs
            told = Told(503, told.code, told.message, {**told.headers, "Retry-After": "1"})
        return shape(request, told)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = {404: "nothing is here", 405: "this method is not allowed here"}
        headers = {"Allow": allowed(request)} if error.status_code == 405 else {}
        told = Told(error.status_code, "", message.get(error.status_code, "bad request"), headers)
        return shape(request, told)

    async def on_unexpected(request: Request, error: Exception) -> Response:
        log.exception("request.failed", error=type(error).__name__)
        return shape(request, told_of(TraceHubError()))

    handlers: dict[Any, Any] = {TraceHubError: on_ours, HTTPException: on_http, Exception: on_unexpected}
    made = Starlette(routes=list(routes), exception_handlers=handlers)
    made.router.redirect_slashes = False
    made.state.context = ctx
    return made
