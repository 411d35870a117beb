"""How long entries are kept (log-service.md §6): /api/v1/retention.

Policies are read with `read`, changed and run with `admin`. A key of one service changes nothing here: a policy is
about all of a tenant. Runs happen in a worker; what is answered here is that one was asked for.
"""

from __future__ import annotations

import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.backend.context import Context, context, read_document, require, require_admin
from apps.backend.errors import JSON
from tracehub.protocol.errors import Conflict, Forbidden, InvalidField, InvalidId, NotFound
from tracehub.protocol.fields import read_id
from tracehub.protocol.grants import ADMIN, READ, Caller, Door
from tracehub.protocol.retention import Policy, merged
from tracehub.protocol.tenants import read_tenant

DOOR = Door("logs")
BODY_BYTES_MAX = 16 * 1024
NOT_FOUND = "Retention policy not found"
_TRUTH = {"": False, "false": False, "0": False, "true": True, "1": True}


async def listed(request: Request) -> Response:
    """GET /retention: the tenant's policy; to an unbound admin who names no tenant, all of them."""
    caller = require(request, READ, door=DOOR)
    return _success(await context(request).policies.of(_reach(caller)))


async def of_tenant(request: Request) -> Response:
    """GET /retention/tenant/{tenant_id}: a tenant's policy, to those who may see it."""
    caller = require(request, READ, door=DOOR)
    tenant_id = read_tenant(request.path_params["tenant_id"])
    if _reach(caller) not in (None, tenant_id):
        raise NotFound(NOT_FOUND)
    found = await context(request).policies.of(tenant_id)
    if not found:
        raise NotFound(NOT_FOUND)
    return _success(found[0])


async def create(request: Request) -> Response:
    """POST /retention: a tenant's first policy; 409 when it has one."""
    ctx, caller = context(request), _admin(request)
    body = await read_document(request, BODY_BYTES_MAX)
    policy = _checked(ctx, caller, merged(Policy(), body))
    made = await ctx.policies.create(caller.tenant_for(body.get("tenant_id")), policy)
    if made is None:
        raise Conflict("this tenant has a retention policy")
    return _success(made, 201)


async def change(request: Request) -> Response:
    """PUT /retention/{id}: change a policy, only what was sent."""
    ctx, caller = context(request), _admin(request)
    policy_id = _policy_id(request)
    body = await read_document(request, BODY_BYTES_MAX)
    made = await ctx.policies.change(
        policy_id, _reach(caller), lambda policy: _checked(ctx, caller, merged(policy, body))
    )
    if made is None:
        raise NotFound(NOT_FOUND)
    return _success(made)


async def delete(request: Request) -> Response:
    """DELETE /retention/{id}: remove a policy; fine also when it is not there."""
    caller = _admin(request)
    await context(request).policies.delete(_policy_id(request), _reach(caller))
    return Response(status_code=204)


async def run(request: Request) -> Response:
    """POST /retention/run: ask for a run, of the caller's tenant or of all; dry, it only counts."""
    caller = _admin(request)
    dry_run = _TRUTH.get(request.query_params.get("dry_run", "").lower())
    if dry_run is None:
        raise InvalidField("must be true or false", field="dry_run")
    run_id = await context(request).policies.ask_run(_reach(caller), dry_run=dry_run)
    return _success({"run_id": run_id}, 202)


async def runs(request: Request) -> Response:
    """GET /retention/runs: what runs did, the newest first."""
    caller = require(request, ADMIN, door=DOOR)
    return _success(await context(request).policies.runs(_reach(caller)))


def _admin(request: Request) -> Caller:
    caller = require_admin(request, DOOR)
    if caller.app_key is not None:
        raise Forbidden("this key is for one service, and retention is for all of a tenant")
    return caller


def _reach(caller: Caller) -> str | None:
    """The tenant whose policies and runs these are; None for an unbound admin who names none: all."""
    if caller.is_unbound_admin and (caller.may_choose_tenant or caller.all_tenants):
        return None
    return caller.tenant_id


def _checked(ctx: Context, caller: Caller, policy: Policy) -> Policy:
    """The policy, when entries may be archived where it says."""
    if policy.archive_path is not None:
        ctx.archives.check(policy.archive_path, is_bound=caller.is_bound)
    return policy


def _policy_id(request: Request) -> uuid.UUID:
    try:
        return read_id(request.path_params["id"])
    except InvalidId:
        raise InvalidId("Invalid retention policy ID format") from None


def _success(data: Any, status: int = 200) -> JSON:
    return JSON({"success": True, "data": data}, status, {"Cache-Control": "no-store"})


ROUTES = [
    Route("/retention", listed, methods=["GET"]),
    Route("/retention", create, methods=["POST"]),
    Route("/retention/run", run, methods=["POST"]),
    Route("/retention/runs", runs, methods=["GET"]),
    Route("/retention/tenant/{tenant_id}", of_tenant, methods=["GET"]),
    Route("/retention/{id}", change, methods=["PUT"]),
    Route("/retention/{id}", delete, methods=["DELETE"]),
]
