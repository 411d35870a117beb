"""Health, metrics and faults (ingest.md §8; log-service.md §9 for health)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.backend.context import Context, context, require, require_admin
from apps.backend.doors.operate import small_body
from apps.backend.errors import JSON
from apps.backend.faults import SECONDS_MAX
from apps.backend.live.snapshot import try_snapshot
from apps.backend.live.view import View
from tracehub.protocol.errors import Forbidden, InvalidField, TraceHubError, Transient
from tracehub.protocol.grants import READ
from tracehub.protocol.shapes import shaped

PROBE_S = 2.0


class FaultBody(msgspec.Struct):
    """The body of POST /metrics/control; the action under any of three names, with - or _ in it."""

    action: str | None = None
    command: str | None = None
    control: str | None = None
    seconds: Annotated[int, Meta(ge=1, le=SECONDS_MAX)] | None = None


async def health(request: Request) -> Response:
    """GET /health: 200 while both stores answer, else 503."""
    up = await probe(context(request))
    well = all(up.values())
    words = {name: "up" if ok else "down" for name, ok in up.items()}
    body = {
        "status": "ok" if well else "degraded",
        **words,
        "success": well,
        "data": {"status": "healthy" if well else "unhealthy", "service": "log-service"},
    }
    return JSON(body, 200 if well else 503)


async def ready(request: Request) -> Response:
    """GET /ready: whether the stores answer and migrations are done."""
    well = all((await probe(context(request))).values())
    if well:
        return JSON({"success": True, "data": {"status": "ready"}})
    error = {"code": "not_ready", "message": "a store does not answer yet, or is not migrated"}
    return JSON({"success": False, "error": error}, 503, {"Retry-After": "1"})


async def live(_: Request) -> Response:
    """GET /live: whether this process answers."""
    return JSON({"success": True, "data": {"status": "alive"}})


async def probe(ctx: Context) -> dict[str, bool]:
    """Which stores answer within PROBE_S."""

    async def answers(question: Any) -> bool:
        try:
            async with asyncio.timeout(PROBE_S):
                return (await question) is not False
        except (TraceHubError, TimeoutError):
            return False

    postgres, redis = await asyncio.gather(answers(ctx.reading.ready()), answers(ctx.queue.ping()))
    return {"postgres": postgres, "redis": redis}


async def metrics(request: Request) -> Response:
    """GET /metrics: Prometheus text. What this process counts is of all tenants, so bound keys are not told."""
    ctx = context(request)
    caller = require(request, READ)
    snapshot = await try_snapshot(ctx.snapshots, View.of(caller))
    body = ctx.metrics.render(snapshot, of_process=not caller.is_bound)
    return Response(body, media_type=CONTENT_TYPE_LATEST)


async def snapshot(request: Request) -> Response:
    """GET /metrics/snapshot: what the page shows now, rates, depths, services and workers."""
    return JSON(await context(request).snapshots.take(View.of(require(request, READ))))


async def series(request: Request) -> Response:
    """GET /metrics/series: the last hour of this backend, rates, depths and events."""
    return JSON(context(request).trail.plain(View.of(require(request, READ))))


async def faults(request: Request) -> Response:
    """GET /metrics/control: which faults are on."""
    ctx = context(request)
    require(request, READ)
    with contextlib.suppress(Transient):  # what this process knows is the best there is
        await ctx.faults.refresh()
    return JSON({"enabled": ctx.settings.faults, "faults": ctx.faults.active()})


async def control(request: Request) -> Response:
    """POST /metrics/control: start a fault."""
    ctx = context(request)
    if require_admin(request).is_bound:
        raise Forbidden("a fault is everybody's: only an admin of all tenants may start one")
    document = await small_body(request)
    if not ctx.settings.faults:
        raise Forbidden("faults are off; start the server with TRACEHUB_FAULTS=1 to allow them")
    body = shaped(document, FaultBody)
    name = next((word for word in (body.action, body.command, body.control) if word is not None), None)
    if name is None:
        raise InvalidField("is required", field="action")
    action = name.replace("-", "_")
    told = await ctx.faults.start(action, body.seconds)
    if action == "reset":
        ctx.board.reset()
    return JSON(told)


ROUTES = [
    Route("/health", health, methods=["GET"]),
    Route("/ready", ready, methods=["GET"]),
    Route("/live", live, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
    Route("/metrics/snapshot", snapshot, methods=["GET"]),
    Route("/metrics/series", series, methods=["GET"]),
    Route("/metrics/control", faults, methods=["GET"]),
    Route("/metrics/control", control, methods=["POST"]),
]
