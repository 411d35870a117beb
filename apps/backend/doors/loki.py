"""The Loki door: POST /loki/api/v1/push (log-service.md §8), as Promtail, Alloy and Loki's libraries call it."""

from __future__ import annotations

from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.backend.body import header
from apps.backend.context import Context
from apps.backend.doors.foreign import JSON, PROTOBUF, application, replayed, store, type_of
from apps.backend.errors import Told
from tracehub.protocol import loki
from tracehub.protocol.credentials import EVERYWHERE, Kind
from tracehub.protocol.errors import UnsupportedType
from tracehub.protocol.grants import Door

BELOW = "/loki/"
PATH = "/loki/api/v1/push"
DOOR: Final = Door("loki", EVERYWHERE | Kind.BASIC, (b"x-tenant-id", b"x-scope-orgid"))
READERS: Final = {PROTOBUF: loki.read_protobuf, JSON: loki.read_json}


async def push(request: Request) -> Response:
    """Store the lines of a push request."""
    kind = type_of(request)
    if kind not in READERS:
        raise UnsupportedType(f"Content-Type must be {JSON} or {PROTOBUF}")
    _translate(request, kind)
    _, written = await store(request, READERS[kind], door=DOOR, most=loki.INFLATED_BYTES_MAX)
    return Response(status_code=204, headers=replayed(written))


def _translate(request: Request, kind: str) -> None:
    """`snappy` as the encoding is what the type says already."""
    scope = request.scope
    if kind == PROTOBUF and header(scope, b"content-encoding").strip().lower() == "snappy":
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"content-encoding"]


def told(_: Request, error: Told) -> Response:
    """One line of plain text."""
    line = " ".join(error.message.split())
    return Response(line + "\n", error.status, error.headers, media_type="text/plain")


ROUTES: Final = [Route(PATH, push, methods=["POST"])]


def door(ctx: Context) -> Starlette:
    """What answers below BELOW."""
    return application(ctx, ROUTES, told)
