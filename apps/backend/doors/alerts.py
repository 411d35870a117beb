"""Alerts of the log service (log-service.md §7): /api/v1/alerts. Workers trigger them and deliver.

Secrets are shown to admin only. A key that is bound to a service makes and sees alerts of that service only.
"""

from __future__ import annotations

import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.backend.context import context, query_int, read_document, require, require_admin
from apps.backend.errors import JSON
from tracehub.pipeline.alerts import announced, sight
from tracehub.protocol.alerts import Alert, merge, read_rule
from tracehub.protocol.announcements import TEST
from tracehub.protocol.errors import Conflict, InvalidId, NotFound
from tracehub.protocol.fields import read_id
from tracehub.protocol.grants import READ, Caller, Door
from tracehub.storage.postgres.alerts import Reach

DOOR = Door("logs")
BODY_BYTES_MAX = 256 * 1024
MERGES_MAX = 5
DELIVERIES = 50
DELIVERIES_MAX = 1_000
OFFSET_MAX = 1_000_000_000


async def listed(request: Request) -> Response:
    """GET /alerts: the tenant's alerts, oldest first."""
    caller = require(request, READ, door=DOOR)
    found = await context(request).alerts.listed(Reach(caller.readable_tenant, caller.app_key))
    return _success([alert.shown(secrets=caller.is_admin) for alert in found])


async def create(request: Request) -> Response:
    """POST /alerts: a new alert."""
    ctx, caller = context(request), require_admin(request, DOOR)
    body = await read_document(request, BODY_BYTES_MAX)
    tenant_id = caller.tenant_for(body.get("tenant_id"))
    rule = read_rule(body, ctx.random)
    made = await ctx.alerts.create(tenant_id, caller.app_key, rule, ctx.clock())
    return _success(made.shown(secrets=True), 201)


async def shown(request: Request) -> Response:
    """GET /alerts/{id}: an alert; its secrets to admins only."""
    caller = require(request, READ, door=DOOR)
    return _success((await _found(request, caller)).shown(secrets=caller.is_admin))


async def change(request: Request) -> Response:
    """PUT /alerts/{id}: change an alert, only what was sent."""
    caller = require_admin(request, DOOR)
    await _found(request, caller)  # an id that is wrong is told before a field that is
    body = await read_document(request, BODY_BYTES_MAX)
    return _success((await _changed(request, caller, body)).shown(secrets=True))


async def enable(request: Request) -> Response:
    """POST /alerts/{id}/enable: watch it again."""
    return await _switched(request, is_on=True)


async def disable(request: Request) -> Response:
    """POST /alerts/{id}/disable: watch it no more. What was triggered before is still delivered."""
    return await _switched(request, is_on=False)


async def _switched(request: Request, *, is_on: bool) -> Response:
    caller = require_admin(request, DOOR)
    await _changed(request, caller, {"enabled": is_on})
    return Response(status_code=204)


async def remove(request: Request) -> Response:
    """DELETE /alerts/{id}: remove an alert; fine also when it is not there."""
    caller = require_admin(request, DOOR)
    await context(request).alerts.delete(_alert_id(request), _reach(caller))
    return Response(status_code=204)


async def test(request: Request) -> Response:
    """POST /alerts/{id}/test: a delivery to each of its channels, about what is in its window now."""
    ctx, caller = context(request), require_admin(request, DOOR)
    alert = await _found(request, caller)
    now_ms = ctx.clock()
    seen = await sight(ctx.outlook, alert, now_ms)
    deliveries = announced(alert, seen, ctx.settings.public_url, TEST)
    await ctx.alerts.add_deliveries(alert.id, now_ms, deliveries)
    return _success({"deliveries": [str(one.id) for one in deliveries]}, 202)


async def deliveries(request: Request) -> Response:
    """GET /alerts/{id}/deliveries: its deliveries, newest first."""
    alert = await _found(request, require(request, READ, door=DOOR))
    limit = query_int(request, "limit", DELIVERIES, DELIVERIES_MAX) or DELIVERIES
    offset = query_int(request, "offset", 0, OFFSET_MAX)
    found = await context(request).alerts.deliveries(alert.id, limit, offset)
    return _success(found)


def _alert_id(request: Request) -> uuid.UUID:
    try:
        return read_id(request.path_params["id"])
    except InvalidId:
        raise InvalidId("Invalid alert ID format") from None


def _reach(caller: Caller) -> Reach:
    """Whose alerts are reached by id: an unbound admin who names no tenant reaches any."""
    anybodys = caller.all_tenants or (caller.is_unbound_admin and caller.may_choose_tenant)
    return Reach(None if anybodys else caller.tenant_id, caller.app_key)


async def _found(request: Request, caller: Caller) -> Alert:
    """The alert in the path. Raises InvalidId, NotFound."""
    alert = await context(request).alerts.find(_alert_id(request), _reach(caller))
    if alert is None:
        raise NotFound("Alert not found")
    return alert


async def _changed(request: Request, caller: Caller, body: dict[str, Any]) -> Alert:
    """The alert with these changes, merged into it as it is when they are written."""
    ctx = context(request)
    for _ in range(MERGES_MAX):
        alert = await _found(request, caller)
        rule = merge(alert.rule, body, ctx.random)
        if (changed := await ctx.alerts.update(alert, rule, ctx.clock())) is not None:
            return changed
    raise Conflict("somebody else changes this alert at the same time; try again")


def _success(data: Any, status: int = 200) -> JSON:
    return JSON({"success": True, "data": data}, status, {"Cache-Control": "no-store"})


ROUTES = [
    Route("/alerts", listed, methods=["GET"]),
    Route("/alerts", create, methods=["POST"]),
    Route("/alerts/{id}", shown, methods=["GET"]),
    Route("/alerts/{id}", change, methods=["PUT"]),
    Route("/alerts/{id}", remove, methods=["DELETE"]),
    Route("/alerts/{id}/enable", enable, methods=["POST"]),
    Route("/alerts/{id}/disable", disable, methods=["POST"]),
    Route("/alerts/{id}/test", test, methods=["POST"]),
    Route("/alerts/{id}/deliveries", deliveries, methods=["GET"]),
]
