"""The OpenAPI 3.1 document of everything that answers here, made of the routes and of the types that check bodies.

A route's summary is its view's docstring, its path parameters are the route's; what goes in and out beside them stands
in described.py. A route that is not described there is in the document all the same, with its summary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from starlette.routing import Route

from apps.backend.described import ANSWERS, DESCRIBED, Described, ref
from tracehub.protocol.shapes import Schema, described

LOG_SERVICE_BASE: Final = "/api/v1/"
_PARAMETER = re.compile(r"\{(\w+)(?::(\w+))?\}")
_TYPES: Final[dict[str, Schema]] = {"int": {"type": "integer", "minimum": 0}}
# What these types do not know is read by another reader, and kept or ignored.
_OPEN_BODIES: Final = ("WireBatch", "WireEntry")
_TENANT: Final = {
    "name": "X-Tenant-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 64},
}
_ONCE: Final = {"name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string"}}
_REFUSALS: Final = {
    400: "bad input; `field` names it",
    401: "no key, or a wrong one",
    403: "a key of another scope, tenant or door",
    404: "nothing is here",
    405: "not with this method",
    408: "the body did not arrive in time",
    409: "it does not fit what is stored",
    413: "too large",
    415: "an encoding or a type that is not taken",
    422: "the Idempotency-Key was used for another body",
    429: "too much is waiting: try again after Retry-After seconds",
    500: "a mistake of the server; its log says more",
    503: "a store is away: try again after Retry-After seconds",
}
_OF_BODIES: Final = frozenset((408, 409, 413, 415, 422))
_OPEN: Final = frozenset(("/health", "/ready", "/live", "/api/health"))


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The document of these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = _PARAMETER.sub(r"{\1}", route.path)
        for method in sorted((route.methods or set()) - {"HEAD", "OPTIONS"}):
            paths.setdefault(path, {})[method.lower()] = _operation(route, method, path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "TraceHub",
            "version": version,
            "description": "2xx of a writing route means: committed in Postgres.",
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted({**ANSWERS, **_bodies()}.items())),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
                "app_key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                "app_token": {"type": "apiKey", "in": "header", "name": "X-Api-Token"},
            },
        },
        "security": [{"key": []}, {"basic": []}, {"app_key": [], "app_token": []}, {}],
    }


def _bodies() -> dict[str, Schema]:
    schemas = described(told.body for told in DESCRIBED.values() if told.body is not None)
    for name in _OPEN_BODIES:
        schemas[name]["additionalProperties"] = True
    return schemas


def _operation(route: Route, method: str, path: str) -> dict[str, Any]:
    told = DESCRIBED.get((method, path), Described(answer={}))
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _TYPES.get(kind, {"type": "string"})}
        for name, kind in _PARAMETER.findall(route.path)
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in told.query.items()
    ]
    parameters += [] if path in _OPEN else [_TENANT]
    parameters += [_ONCE] if told.once else []
    made: dict[str, Any] = {
        "operationId": f"{method.lower()}{re.sub(r'[^A-Za-z0-9]+', '_', path)}".rstrip("_"),
        "summary": _summary(route),
        "parameters": parameters,
        "responses": _responses(told, method, path),
    }
    if told.body is not None:
        schema = ref(told.body.__name__)
        made["requestBody"] = {
            "required": not told.optional,
            "content": {"application/json": {"schema": schema}},
        }
    if path in _OPEN:
        made["security"] = []
    return made


def _summary(route: Route) -> str:
    """The first sentence of the view's docstring, without the route that it begins with."""
    text = " ".join((route.endpoint.__doc__ or "").split())
    told = re.sub(r"^[A-Z]+ /\S*[:.] ?", "", text) or route.name.replace("_", " ")
    return told[0].upper() + told[1:]


def _responses(told: Described, method: str, path: str) -> dict[str, Any]:
    answers: dict[str, Any] = {str(told.ok): {"description": "done"}}
    if told.answer is not None:
        answers[str(told.ok)]["content"] = {told.kind: {"schema": told.answer}}
    if told.also is not None:
        answers[str(told.also)] = answers[str(told.ok)]
    if path in _OPEN:
        shape: Schema = {}
    elif path.startswith(LOG_SERVICE_BASE):
        shape = ref("LogServiceError")
    elif path.startswith("/api/"):
        shape = {"anyOf": [ref("LogstreamError"), ref("LogstreamSaved")]}
    elif path.startswith(("/loki/", "/v1/", "/log")):
        shape = {}
    else:
        shape = ref("Error")
    for status, description in _REFUSALS.items():
        if method == "GET" and status in _OF_BODIES:
            continue
        kind = "text/plain" if path.startswith("/loki/") else "application/json"
        answers[str(status)] = {"description": description, "content": {kind: {"schema": shape}}}
    return answers
