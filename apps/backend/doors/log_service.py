"""The log service below /api/v1: an application of its own, because its errors have a shape of their own."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Route

from apps.backend.context import Context
from apps.backend.doors import alerts, keys, logs, retention
from apps.backend.errors import LOG_SERVICE

BASE = "/api/v1"
BELOW = f"{BASE}/"
ROUTES = (*logs.ROUTES, *keys.ROUTES, *retention.ROUTES, *alerts.ROUTES)


def routes() -> list[Route]:
    """All of it. Not mounted: a mount would keep its routes from saying which methods a path has."""
    return [Route(BASE + route.path, route.endpoint, methods=route.methods) for route in ROUTES]


def application(ctx: Context) -> Starlette:
    """What answers below /api/v1."""
    made = Starlette(routes=routes(), exception_handlers=LOG_SERVICE.handlers())
    made.router.redirect_slashes = False
    made.state.context = ctx
    return made
