"""The OpenAPI 3.1 document of everything that answers here, made of the routes themselves.

A route's summary is its view's docstring, its path parameters are the route's; what goes in and out beside them stands
in DESCRIBED, in terms of the limits and words that the readers check by. A route that is not described is in the
document all the same, with its summary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.routing import Route

from tracehub.protocol import logstream
from tracehub.protocol.entries import WireBatch
from tracehub.protocol.filters import EXACT, PAGE_SIZE, PAGE_SIZE_MAX, SEARCH_CHARS_MAX
from tracehub.protocol.limits import BATCH_ENTRIES_MAX, MESSAGE_BYTES_MAX, SERVICE_CHARS_MAX, TEXT_CHARS_MAX
from tracehub.protocol.severity import HIGHEST, LOG_SERVICE, LOGSTREAM
from tracehub.storage.postgres.counting import GROUPS, INTERVALS_MS

Schema = dict[str, Any]

LOG_SERVICE_BASE: Final = "/api/v1/"
_PARAMETER = re.compile(r"\{(\w+)(?::(\w+))?\}")
_STRING: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_ANY: Final[Schema] = {}
_TEXTS: Final = ("trace_id", "span_id", "request_id", "user_id", "source", "host", "environment")


def _text(most: int, least: int = 0) -> Schema:
    return {"type": "string", "maxLength": most, **({"minLength": least} if least else {})}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: dict[str, Schema], required: Iterable[str] = (), **more: Any) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), **more}


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _success(data: Schema) -> Schema:
    """The log service's shape."""
    meta = _object({"completeness": _ref("Completeness")})
    return _object({"success": {"const": True}, "data": data, "meta": meta}, ("success", "data"))


_TEXT_FIELDS: Final = {name: _text(TEXT_CHARS_MAX[name]) for name in _TEXTS}
_COUNTS: Final = {"type": "object", "additionalProperties": _COUNT}

SCHEMAS: Final[dict[str, Schema]] = {
    "NewLogEntry": _object(
        {
            "service_name": _text(SERVICE_CHARS_MAX, 1),
            "message": _text(MESSAGE_BYTES_MAX, 1),
            "level": _STRING,
            "id": {"type": "string", "format": "uuid"},
            "tenant_id": _text(64, 1),
            "timestamp": _TIME,
            "metadata": _ANY,
            **_TEXT_FIELDS,
        },
        ("service_name", "message"),
    ),
    "LogEntry": _object(
        {
            "id": {"type": "string", "format": "uuid"},
            "tenant_id": {"type": "string", "format": "uuid"},
            "service_name": _STRING,
            "level": {"enum": [word.upper() for word in LOG_SERVICE]},
            "severity": {"type": "integer", "minimum": 1, "maximum": HIGHEST},
            "message": _STRING,
            "timestamp": _TIME,
            "created_at": _TIME,
            "door": _STRING,
            "metadata": _ANY,
            **_TEXT_FIELDS,
        },
        (
            "id",
            "tenant_id",
            "service_name",
            "level",
            "severity",
            "message",
            "timestamp",
            "created_at",
            "door",
        ),
    ),
    "LogQueryResult": _object(
        {
            "entries": _list(_ref("LogEntry")),
            "total_count": {"type": ["integer", "null"], "minimum": 0},
            "page": {"type": "integer", "minimum": 1},
            "page_size": {"type": "integer", "minimum": 1, "maximum": PAGE_SIZE_MAX},
            "has_more": {"type": "boolean"},
            "next_cursor": {"type": ["string", "null"]},
        },
        ("entries", "total_count", "page", "page_size", "has_more", "next_cursor"),
    ),
    "Completeness": _object(
        {
            "complete": {"type": "boolean"},
            "missing": _COUNT,
            "lost": _COUNT,
            "inFlight": {"type": ["integer", "null"], "minimum": 0},
            "services": _list(
                _object({"service": _STRING, "missing": _COUNT, "lost": _COUNT, "inFlight": _COUNT})
            ),
        },
        ("complete", "missing", "lost", "inFlight", "services"),
        description="What the ledger knows about the window that was asked for.",
    ),
    "Stats": _object(
        {
            "total_count": _COUNT,
            "level_counts": _COUNTS,
            "service_counts": _COUNTS,
            "time_range": _object({"start": _TIME, "end": _TIME}, ("start", "end")),
        },
        ("total_count", "level_counts", "service_counts", "time_range"),
    ),
    "Bucket": _object(
        {"bucket": _TIME, "count": _COUNT, "level_counts": _COUNTS, "group": {"type": ["string", "null"]}},
        ("bucket", "count", "level_counts"),
    ),
    "Storage": _object(
        {
            "size_bytes": _COUNT,
            "size_mb": {"type": "number"},
            "size_gb": {"type": "number"},
            "row_count": _COUNT,
        },
        ("size_bytes", "size_mb", "size_gb", "row_count"),
    ),
    "LogServiceError": _object(
        {
            "success": {"const": False},
            "error": _object({"code": _STRING, "message": _STRING, "field": _STRING}, ("code", "message")),
        },
        ("success", "error"),
    ),
    "Error": _object(
        {"error": _object({"code": _STRING, "message": _STRING, "field": _STRING}, ("code", "message"))},
        ("error",),
    ),
    "LogstreamEntry": _object(
        {
            **dict.fromkeys(("id", "app_key", "app_id", "category", "message"), _STRING),
            **{name: {"type": ["string", "null"]} for name in ("trace_id", "batch_id", "user_agent")},
            "level": {"enum": list(LOGSTREAM)},
            "context": _ANY,
            "timestamp": _TIME,
            "created_at": _TIME,
        },
        (
            "id",
            "trace_id",
            "batch_id",
            "app_key",
            "app_id",
            "user_agent",
            "level",
            "category",
            "message",
            "context",
            "timestamp",
            "created_at",
        ),
    ),
    "LogstreamError": _object({"error": _STRING, "reason": _STRING}, ("error",)),
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One of a query string."""

    name: str
    schema: Schema


@dataclass(frozen=True, slots=True)
class Described:
    """What goes in and out of a route: `ok` is a status, `answer` its schema (None: no body)."""

    query: Sequence[Parameter] = ()
    body: Schema | None = None
    answer: Schema | None = None
    ok: int = 200
    kind: str = "application/json"


_FILTER: Final = (
    *(Parameter(name, _STRING) for name in EXACT),
    *(Parameter(name, _STRING) for name in ("level", "min_level", "start", "end", "start_time", "end_time")),
    Parameter("search", _text(SEARCH_CHARS_MAX)),
)
_PAGES: Final = (
    Parameter("page", {"type": "integer", "minimum": 1, "default": 1}),
    Parameter("page_size", {"type": "integer", "minimum": 1, "maximum": PAGE_SIZE_MAX, "default": PAGE_SIZE}),
    Parameter("order", {"enum": ["asc", "desc"]}),
    Parameter("cursor", _STRING),
)
_FILTER_BODY: Final = _object(
    {p.name: p.schema for p in _FILTER} | {"metadata": {"type": "object"}}, additionalProperties=False
)
_QUERY_BODY: Final = {
    **_FILTER_BODY,
    "properties": {**_FILTER_BODY["properties"], **{p.name: p.schema for p in _PAGES}},
}
_GROUPED: Final = {
    **_FILTER_BODY,
    "properties": {
        **_FILTER_BODY["properties"],
        "group_by": {
            "anyOf": [{"enum": list(GROUPS)}, {"type": "string", "pattern": r"^metadata\..{1,100}$"}]
        },
    },
}
_LOGSTREAM_QUERY: Final = tuple(
    Parameter(name, _STRING)
    for name in ("app_key", "app_id", "trace_id", "batch_id", "level", "user_agent", "category", "search", "date_from",
                 "date_to", "door", "limit", "offset", "cursor")
)  # fmt: skip
_LOGSTREAM_SAVED: Final = _object(
    {
        "saved": _COUNT,
        "entries": _list(_ref("LogstreamEntry")),
        "errors": {"anyOf": [_list(_STRING), {"type": "null"}]},
    },
    ("saved", "entries", "errors"),
)

DESCRIBED: Final[dict[tuple[str, str], Described]] = {
    ("POST", "/ingest"): Described(
        (Parameter("acks", {"enum": ["stored", "queued"]}),),
        msgspec.json.schema(WireBatch),
        {"type": "object"},
    ),
    ("GET", "/api/v1/logs"): Described((*_FILTER, *_PAGES), None, _success(_ref("LogQueryResult"))),
    ("POST", "/api/v1/logs"): Described((), _ref("NewLogEntry"), _success(_ref("LogEntry")), 201),
    ("POST", "/api/v1/logs/batch"): Described(
        (),
        _object({"entries": _list(_ref("NewLogEntry"), maxItems=BATCH_ENTRIES_MAX)}),
        _success(_object({"count": _COUNT, "duplicates": _COUNT}, ("count",))),
        201,
    ),
    ("POST", "/api/v1/logs/query"): Described((), _QUERY_BODY, _success(_ref("LogQueryResult"))),
    ("GET", "/api/v1/logs/{id}"): Described(answer=_success(_ref("LogEntry"))),
    ("GET", "/api/v1/logs/{id}/around"): Described(
        (Parameter("lines", _COUNT),),
        None,
        _success(
            _object(
                {"before": _list(_ref("LogEntry")), "after": _list(_ref("LogEntry"))}, ("before", "after")
            )
        ),
    ),
    ("GET", "/api/v1/logs/trace/{trace_id}"): Described(
        (Parameter("cursor", _STRING),), None, _success(_list(_ref("LogEntry")))
    ),
    ("GET", "/api/v1/logs/request/{request_id}"): Described(
        (Parameter("cursor", _STRING),), None, _success(_list(_ref("LogEntry")))
    ),
    ("GET", "/api/v1/logs/stats"): Described(_FILTER, None, _success(_ref("Stats"))),
    ("POST", "/api/v1/logs/aggregate"): Described(
        (Parameter("interval", {"enum": list(INTERVALS_MS)}),), _GROUPED, _success(_list(_ref("Bucket")))
    ),
    ("GET", "/api/v1/logs/services"): Described(answer=_success(_list(_STRING))),
    ("GET", "/api/v1/logs/storage"): Described(answer=_success(_ref("Storage"))),
    ("GET", "/api/v1/logs/stream"): Described(
        (*_FILTER, Parameter("last_event_id", _STRING)), None, _STRING, kind="text/event-stream"
    ),
    ("GET", "/api/logs"): Described(
        _LOGSTREAM_QUERY,
        None,
        _object(
            {"total": _COUNT, "limit": _COUNT, "offset": _COUNT, "entries": _list(_ref("LogstreamEntry"))},
            ("total", "limit", "offset", "entries"),
        ),
    ),
    ("POST", "/api/logs"): Described(
        (),
        _object(
            {
                "app_key": _text(logstream.APP_CHARS_MAX, 1),
                "app_id": _text(logstream.APP_CHARS_MAX, 1),
                "logs": _list(
                    _object({"message": _text(MESSAGE_BYTES_MAX)}, ("message",)), maxItems=BATCH_ENTRIES_MAX
                ),
            },
            ("app_key", "app_id"),
        ),
        _LOGSTREAM_SAVED,
        201,
    ),
    ("GET", "/api/logs/{id}"): Described(answer=_ref("LogstreamEntry")),
    ("POST", "/loki/api/v1/push"): Described((), _object({"streams": _list({"type": "object"})}), ok=204),
    ("POST", "/v1/logs"): Described(
        (), _object({"resourceLogs": _list({"type": "object"})}), {"type": "object"}
    ),
    ("DELETE", "/api/v1/keys/{id}"): Described(ok=204),
    ("DELETE", "/dead-letters/{id}"): Described(ok=204),
    ("POST", "/api/v1/keys"): Described(
        (),
        _object({"name": _STRING, "scopes": _list({"enum": ["write", "read", "admin"]})}, ("name", "scopes")),
        _success({"type": "object"}),
        201,
    ),
    ("GET", "/metrics"): Described(answer=_STRING, kind="text/plain"),
    ("GET", "/whoami"): Described(
        (Parameter("tenant_id", _STRING),),
        None,
        _object(
            {
                **{key: {"type": "boolean"} for key in ("loggedIn", "admin", "allTenants")},
                **{key: {"type": ["string", "null"]} for key in ("keyId", "appKey")},
                "tenantId": {"type": "string", "format": "uuid"},
            },
            ("loggedIn", "keyId", "admin", "allTenants", "tenantId", "appKey"),
        ),
    ),
}

_TYPES: Final = {"int": {"type": "integer", "minimum": 0}}
_REFUSALS: Final = {
    400: "bad input; `field` names it",
    401: "no key, or a wrong one",
    403: "a key of another scope, tenant or door",
    404: "nothing is here",
    409: "it does not fit what is stored",
    413: "too large",
    415: "an encoding or a type that is not taken",
    422: "the Idempotency-Key was used for another body",
    429: "too much is waiting: try again after Retry-After seconds",
    503: "a store is away: try again after Retry-After seconds",
}
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
            "schemas": SCHEMAS,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "app_key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                "app_token": {"type": "apiKey", "in": "header", "name": "X-Api-Token"},
            },
        },
        "security": [{"key": []}, {"app_key": [], "app_token": []}, {}],
    }


def _operation(route: Route, method: str, path: str) -> dict[str, Any]:
    described = DESCRIBED.get((method, path), Described(answer={}))
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _TYPES.get(kind, _STRING)}
        for name, kind in _PARAMETER.findall(route.path)
    ]
    parameters += [
        {"name": p.name, "in": "query", "required": False, "schema": p.schema} for p in described.query
    ]
    made: dict[str, Any] = {
        "operationId": f"{method.lower()}{re.sub(r'[^A-Za-z0-9]+', '_', path)}".rstrip("_"),
        "summary": _summary(route),
        "parameters": parameters,
        "responses": _responses(described, path),
    }
    if described.body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": described.body}}}
    if path in _OPEN:
        made["security"] = []
    return made


def _summary(route: Route) -> str:
    """The first sentence of the view's docstring, without the route that it begins with."""
    text = " ".join((route.endpoint.__doc__ or "").split())
    return re.sub(r"^[A-Z]+ /\S*[:.] ?", "", text) or route.name.replace("_", " ")


def _responses(described: Described, path: str) -> dict[str, Any]:
    told: dict[str, Any] = {str(described.ok): {"description": "done"}}
    if described.answer is not None:
        told[str(described.ok)]["content"] = {described.kind: {"schema": described.answer}}
    if path.startswith(LOG_SERVICE_BASE):
        shape: Schema = _ref("LogServiceError")
    elif path.startswith("/api/"):
        shape = {"anyOf": [_ref("LogstreamError"), _LOGSTREAM_SAVED]}
    elif path.startswith(("/loki/", "/v1/", "/log")):
        shape = {}
    else:
        shape = _ref("Error")
    for status, description in _REFUSALS.items():
        kind = "text/plain" if path.startswith("/loki/") else "application/json"
        told[str(status)] = {"description": description, "content": {kind: {"schema": shape}}}
    return told
