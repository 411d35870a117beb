"""The OTLP door: POST /v1/logs (log-service.md §8), as OpenTelemetry's exporters call it.

Answers and errors are in the encoding of the request. 429 and 503 are the only ones that a client repeats.
"""

from __future__ import annotations

from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.backend.context import Context
from apps.backend.doors.foreign import JSON, PROTOBUF, application, replayed, store, type_of
from apps.backend.errors import Told
from tracehub.protocol import otlp
from tracehub.protocol.credentials import EVERYWHERE, Kind
from tracehub.protocol.errors import UnsupportedType
from tracehub.protocol.grants import Door

PATH = "/v1/logs"
DOOR: Final = Door("otlp", EVERYWHERE | Kind.BASIC)
BODY_BYTES_MAX = 20 * 1024 * 1024
READERS: Final = {PROTOBUF: otlp.read_protobuf, JSON: otlp.read_json}
# google.rpc.Code by HTTP status.
CODES: Final = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 409: 10, 413: 3, 415: 3, 422: 3, 429: 8, 503: 14}
INTERNAL: Final = 13


async def export(request: Request) -> Response:
    """Store an ExportLogsServiceRequest."""
    kind = type_of(request)
    if kind not in READERS:
        raise UnsupportedType(f"Content-Type must be {PROTOBUF} or {JSON}")
    drafts, written = await store(request, READERS[kind], door=DOOR, most=BODY_BYTES_MAX)
    answer = otlp.response(drafts.rejected, drafts.reason, kind == JSON)
    return Response(answer, 200, replayed(written), media_type=kind)


def told(request: Request, error: Told) -> Response:
    """google.rpc.Status."""
    as_json = type_of(request) != PROTOBUF
    content = otlp.status(CODES.get(error.status, INTERNAL), error.message, as_json)
    return Response(content, error.status, error.headers, media_type=JSON if as_json else PROTOBUF)


ROUTES: Final = [Route(PATH, export, methods=["POST"])]


def door(ctx: Context) -> Starlette:
    """What answers at PATH."""
    return application(ctx, ROUTES, told)
