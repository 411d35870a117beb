"""Server-sent events (log-service.md §5): GET /logs/stream. Below /api/v1."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from apps.backend.answers import scoped
from apps.backend.context import Context, context, require
from apps.backend.live.feed import Follower, Frame
from tracehub.protocol.credentials import EVERYWHERE, Kind
from tracehub.protocol.errors import Unavailable
from tracehub.protocol.filters import from_query
from tracehub.protocol.grants import READ, Caller, Door
from tracehub.runtime.clock import monotonic_s

COMMENT_S: Final = 15.0
LOOK_S: Final = 1.0  # how soon a stream sees that the server stops
DOOR: Final = Door("logs", EVERYWHERE | Kind.TOKEN, tenant_in_query=True)
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def stream(request: Request) -> Response:
    """GET /logs/stream?<filter>: what is committed from now on, or since a position."""
    ctx, caller = context(request), require(request, READ, door=DOOR)
    wanted, _ = from_query(request.query_params.multi_items())
    wanted = scoped(replace(wanted, start_ms=None, end_ms=None), caller)
    since = request.headers.get("last-event-id") or request.query_params.get("last_event_id", "")
    follower = await ctx.feed.follow(caller.readable_tenant, wanted)
    if follower is None:
        raise Unavailable("too many streams are open; try again later", retry_after_s=5)
    try:
        is_known = not since or await ctx.feed.knows(since)
    except BaseException:
        ctx.feed.leave(follower)
        raise
    events = _events(ctx, caller, follower, since if is_known else None)
    return StreamingResponse(events, headers=_HEADERS, media_type="text/event-stream")


async def _events(
    ctx: Context, caller: Caller, follower: Follower, since: str | None
) -> AsyncIterator[bytes]:
    """`since` None: it is not known any more. Ends with the server, and with the caller's key."""
    try:
        yield b"retry: 2000\n\n"
        if since is None:
            yield b'event: reset\ndata: {"reason":"position_too_old"}\n\n'
        if since:
            async for frame in ctx.feed.between(since, follower):
                yield _event(frame)
        said_s = monotonic_s()
        while not ctx.stopping() and ctx.access.stands(caller):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await follower.backlog.news.wait()
            skipped, frames = follower.backlog.take()
            if skipped:
                yield b'event: skipped\ndata: {"count":%d}\n\n' % skipped
            for frame in frames:
                yield _event(frame)
            if frames:
                said_s = monotonic_s()
            elif monotonic_s() - said_s >= COMMENT_S:
                said_s = monotonic_s()
                yield b": here\n\n"
    finally:
        ctx.feed.leave(follower)


def _event(frame: Frame) -> bytes:
    return b"id: %s\nevent: message\ndata: %s\n\n" % (frame.position.encode(), frame.data)


ROUTES = [Route("/logs/stream", stream, methods=["GET"])]
