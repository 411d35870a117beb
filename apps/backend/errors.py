"""Exceptions to answers: one table of statuses, and a dialect for each family of doors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
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
    e.InvalidId: 400,
    e.InvalidTenantId: 400,
    e.Unauthorized: 401,
    e.Forbidden: 403,
    e.NotFound: 404,
    e.UnknownService: 404,
    e.SlowBody: 408,
    e.Conflict: 409,
    e.InFlight: 409,
    e.IdempotencyMismatch: 422,
    e.TooLarge: 413,
    e.UnsupportedEncoding: 415,
    e.UnsupportedType: 415,
    e.Overloaded: 429,
    e.TooManyGaps: 429,
    e.Unavailable: 503,
    e.Transient: 503,
    e.NetworkDropped: 503,
    e.QueryTimeout: 503,
}
RETRY_AFTER_S = 1
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 400: "invalid_json", 413: "too_large"}


class JSON(Response):
    """A JSON answer, written by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Bytes of the body."""
        return orjson.dumps(content)


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer says of an error, whatever its shape."""

    status: int
    code: str
    message: str
    headers: dict[str, str]
    field: str | None = None


def told_of(error: e.TraceHubError) -> Told:
    """Status, code and words of one of our errors: nothing in them that is nobody's business."""
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    shown = error if status != 500 else e.TraceHubError("something went wrong; the server's log says what")
    message = (
        "a store is not reachable; try again later" if isinstance(error, e.StoreError) else shown.message
    )
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status in (429, 503):
        headers["Retry-After"] = str(error.retry_after_s or RETRY_AFTER_S)
    if status == 408:
        headers["Connection"] = "close"
    return Told(status, shown.code, message, headers, error.field)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the doors of one family tell an error: its shape, and their own words for some codes."""

    shape: Callable[[dict[str, Any]], dict[str, Any]]
    words: Mapping[str, str] = field(default_factory=dict)

    def answer(self, error: e.TraceHubError) -> Response:
        """One of our errors as an HTTP answer."""
        told = told_of(error)
        shown = self._told(told.code, told.message)
        if told.field is not None:
            shown["field"] = told.field
        return JSON(self.shape(shown), told.status, told.headers)

    def _told(self, code: str, message: str) -> dict[str, Any]:
        return {"code": self.words.get(code, code), "message": message}

    async def guarded(self, answering: Awaitable[Response]) -> Response:
        """What a view answers, or what is told of its error."""
        try:
            return await answering
        except e.TraceHubError as error:
            return await self.on_tracehub_error(None, error)
        except Exception as error:
            return await self.on_unexpected(None, error)

    async def on_tracehub_error(self, _: Request | None, error: Exception) -> Response:
        """Handler for every error of ours."""
        assert isinstance(error, e.TraceHubError)
        response = self.answer(error)
        if response.status_code == 500:
            log.exception("request.failed", error=type(error).__name__)
        return response

    async def on_http_error(self, request: Request, error: Exception) -> Response:
        """Handler for Starlette's own errors: unknown paths and methods."""
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = allowed(request)
        code = _HTTP_CODES.get(error.status_code, "invalid_request")
        message = {404: "nothing is here", 405: "this method is not allowed here"}.get(
            error.status_code, "bad request"
        )
        return JSON(self.shape(self._told(code, message)), error.status_code, headers)

    async def on_unexpected(self, _: Request | None, error: Exception) -> Response:
        """Handler for mistakes of ours: logged in full here, told as `internal` there."""
        log.exception("request.failed", error=type(error).__name__)
        return self.answer(e.TraceHubError())

    def handlers(self) -> dict[Any, Any]:
        """All three, as Starlette wants them."""
        return {
            e.TraceHubError: self.on_tracehub_error,
            HTTPException: self.on_http_error,
            Exception: self.on_unexpected,
        }


def allowed(request: Request) -> str:
    """All methods of a path; Starlette names only those of the first route that has it."""
    methods = {
        method
        for route in request.app.routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods
    }
    return ", ".join(sorted(methods))


INGEST = Dialect(lambda told: {"error": told})
LOG_SERVICE = Dialect(
    lambda told: {"success": False, "error": told},
    {
        "invalid_json": "invalid_request",
        "invalid_field": "invalid_request",
        "not_found": "NOT_FOUND",
        "internal": "INTERNAL_ERROR",
    },
)
