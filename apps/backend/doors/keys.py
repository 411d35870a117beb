"""Keys for those who may do everything (log-service.md §1.4): /api/v1/keys.

An admin who is bound to a tenant, a service or doors makes, sees and ends such keys only: nobody gives away more
than they have.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.backend.context import context, read_document, require, require_admin
from apps.backend.errors import JSON
from tracehub.protocol import credentials
from tracehub.protocol.errors import Forbidden, InvalidId, NotFound
from tracehub.protocol.grants import ADMIN, Caller, Door, NewKey, read_new_key

DOOR = Door("logs")
BODY_BYTES_MAX = 16 * 1024


async def listed(request: Request) -> Response:
    """GET /keys: the keys that are not revoked, without the keys themselves."""
    caller = require(request, ADMIN, door=DOOR)
    keys = await context(request).key_store.listed(_tenant(caller), caller.app_key)
    return _success(keys)


async def create(request: Request) -> Response:
    """POST /keys: a new key, which is shown this once."""
    ctx, caller = context(request), require_admin(request, DOOR)
    body = await read_document(request, BODY_BYTES_MAX)
    wanted = _within(caller, read_new_key(body, ctx.clock()))
    key = credentials.make_key(ctx.random(credentials.RANDOM_BYTES))
    made = await ctx.key_store.create(wanted, credentials.digest(key))
    await ctx.access.changed()
    return _success({**made, "key": key}, 201)


async def revoke(request: Request) -> Response:
    """DELETE /keys/{id}: revoke a key, again as well; its streams, sockets and logins end within 5 s."""
    ctx, caller = context(request), require_admin(request, DOOR)
    try:
        key_id = uuid.UUID(request.path_params["id"])
    except ValueError:
        raise InvalidId("Invalid key ID format") from None
    if not await ctx.key_store.revoke(key_id, _tenant(caller), caller.app_key):
        raise NotFound("Key not found")
    await ctx.access.changed()
    return Response(status_code=204)


def _tenant(caller: Caller) -> str | None:
    """The tenant whose keys these are; None for an unbound admin who names none: all."""
    return None if caller.may_choose_tenant else caller.tenant_id


def _within(caller: Caller, wanted: NewKey) -> NewKey:
    """The key that was asked for, within what the caller has. Raises Forbidden for another service or door."""
    if not caller.may_choose_tenant:
        wanted = replace(wanted, tenant_id=caller.tenant_id)
    if caller.app_key is not None:
        if wanted.app_key not in (None, caller.app_key):
            raise Forbidden("this key is for another service")
        wanted = replace(wanted, app_key=caller.app_key)
    doors = caller.grant.doors if caller.grant else None
    if doors is not None:
        if wanted.doors is not None and not doors.issuperset(wanted.doors):
            raise Forbidden("this key is not for these doors")
        wanted = replace(wanted, doors=wanted.doors or tuple(sorted(doors)))
    return wanted


def _success(data: Any, status: int = 200) -> JSON:
    return JSON({"success": True, "data": data}, status, {"Cache-Control": "no-store"})


ROUTES = [
    Route("/keys", listed, methods=["GET"]),
    Route("/keys", create, methods=["POST"]),
    Route("/keys/{id}", revoke, methods=["DELETE"]),
]
