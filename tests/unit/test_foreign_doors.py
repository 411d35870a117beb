"""What OTLP's and Loki's clients are told of our errors, and how Loki's headers become ours."""

from __future__ import annotations

import asyncio
import json

import pytest
from google.rpc.status_pb2 import Status
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from apps.backend.doors import foreign, loki, otlp
from tracehub.protocol import errors as e
from tracehub.protocol.errors import TraceHubError

TABLE = [
    (e.InvalidJSON(), 400, 3),
    (e.InvalidField("must be so", field="x"), 400, 3),
    (e.Unauthorized(), 401, 16),
    (e.Forbidden(), 403, 7),
    (e.InFlight(), 409, 10),
    (e.TooLarge(), 413, 3),
    (e.UnsupportedEncoding(), 415, 3),
    (e.UnsupportedType(), 415, 3),
    (e.IdempotencyMismatch(), 422, 3),
    (e.Overloaded(retry_after_s=7), 429, 8),
    (e.Unavailable(), 503, 14),
    (e.Transient("secret of the store"), 503, 14),
    (e.SlowBody(), 503, 14),
    (TraceHubError("secret of the server"), 500, 13),
]


def request(*headers: tuple[str, str]) -> Request:
    pairs = [(name.encode(), value.encode()) for name, value in headers]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": pairs})


def answer(door: Starlette, asked: Request, error: TraceHubError) -> Response:
    handler = door.exception_handlers[TraceHubError]
    response: Response = asyncio.run(handler(asked, error))  # type: ignore[arg-type]
    return response


def retry_after(error: TraceHubError, status: int) -> str | None:
    return str(error.retry_after_s or 1) if status in (429, 503) else None


@pytest.mark.parametrize(("error", "status", "code"), TABLE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("kind", [foreign.PROTOBUF, foreign.JSON])
def test_otlp(error: TraceHubError, status: int, code: int, kind: str) -> None:
    door = foreign.application(None, [], otlp.told)  # type: ignore[arg-type]
    told = answer(door, request(("content-type", kind)), error)
    assert (told.status_code, told.headers["content-type"]) == (status, kind)
    assert told.headers.get("retry-after") == retry_after(error, status)
    content = bytes(told.body)
    if kind == foreign.JSON:
        shown = json.loads(content)
        found, message = shown["code"], shown["message"]
    else:
        read = Status.FromString(content)
        found, message = read.code, read.message
    assert found == code
    assert message
    assert "secret" not in message


@pytest.mark.parametrize(("error", "status", "_"), TABLE, ids=lambda value: type(value).__name__)
def test_loki(error: TraceHubError, status: int, _: int) -> None:
    door = foreign.application(None, [], loki.told)  # type: ignore[arg-type]
    told = answer(door, request(), error)
    assert told.status_code == status
    assert told.headers["content-type"].startswith("text/plain")
    assert told.headers.get("retry-after") == retry_after(error, status)
    text = bytes(told.body).decode()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert "secret" not in text
