"""Exceptions to answers: the one table of the ingest dialect (ingest.md §2)."""

from __future__ import annotations

from typing import Any

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from tracehub.protocol import errors as e

log = structlog.get_logger()

STATUS: dict[type[e.TraceHubError], int] = {
    e.InvalidJSON: 400,
    e.InvalidField: 400,
    e.Unauthorized: 401,
    e.Forbidden: 403,
    e.NotFound: 404,
    e.UnknownService: 404,
    e.SlowBody: 408,
    e.Conflict: 409,
    e.TooLarge: 413,
    e.UnsupportedEncoding: 415,
    e.UnsupportedType: 415,
    e.Overloaded: 429,
    e.TooManyGaps: 429,
    e.Unavailable: 503,
    e.Transient: 503,
    e.NetworkDropped: 503,
}
RETRY_AFTER_S = 1
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 400: "invalid_json", 413: "too_large"}


class JSON(Response):
    """A JSON answer, written by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Bytes of the body."""
        return orjson.dumps(content)


def answer(error: e.TraceHubError) -> Response:
    """One of our errors as an HTTP answer."""
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    shown = error if status != 500 else e.TraceHubError("something went wrong; the server's log says what")
    message = (
        "a store is not reachable; try again later" if isinstance(error, e.StoreError) else shown.message
    )
    body: dict[str, Any] = {"code": shown.code, "message": message}
    if error.field is not None:
        body["field"] = error.field
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = str(error.retry_after_s or RETRY_AFTER_S)
    if status == 408:
        headers["Connection"] = "close"
    return JSON({"error": body}, status, headers)


async def on_tracehub_error(_: Request, error: Exception) -> Response:
    """Handler for every error of ours."""
    assert isinstance(error, e.TraceHubError)
    response = answer(error)
    if response.status_code == 500:
        log.exception("request.failed", error=type(error).__name__)
    return response


async def on_http_error(request: Request, error: Exception) -> Response:
    """Handler for Starlette's own errors: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    code = _HTTP_CODES.get(error.status_code, "invalid_request")
    message = {404: "nothing is here", 405: "this method is not allowed here"}.get(
        error.status_code, "bad request"
    )
    return JSON({"error": {"code": code, "message": message}}, error.status_code, headers)


def _methods(request: Request) -> set[str]:
    """All methods of a path; Starlette names only those of the first route that has it."""
    return {
        method
        for route in request.app.routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods
    }


async def on_unexpected(_: Request, error: Exception) -> Response:
    """Handler for mistakes of ours: logged in full here, told as `internal` there."""
    log.exception("request.failed", error=type(error).__name__)
    return answer(e.TraceHubError())
