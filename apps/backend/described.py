"""What goes in and out of each route, for openapi.py: bodies are the types that check them, answers stand here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from apps.backend.doors.alerts import DELIVERIES, DELIVERIES_MAX
from apps.backend.doors.log_counts import AggregateBody
from apps.backend.doors.logs import AROUND, AROUND_MAX
from apps.backend.doors.observe import FaultBody
from apps.backend.doors.operate import PAGE_DEFAULT, PAGE_MAX, REPLAY_STATUSES, ReplayBody
from tracehub.protocol.alerts import (
    MINUTES_MAX,
    SEVERITIES,
    THRESHOLD_MAX,
    AlertBody,
    AlertChanges,
)
from tracehub.protocol.entries import WireBatch
from tracehub.protocol.filters import PAGE_SIZE_MAX, PAGING, TIMES, QueryBody
from tracehub.protocol.grants import DOORS, SCOPES, KeyBody
from tracehub.protocol.limits import SEQ_MAX, TEXT_CHARS_MAX
from tracehub.protocol.logservice import LogBatchBody, LogEntryBody
from tracehub.protocol.logstream import LIMIT, LIMIT_MAX, LogstreamBody
from tracehub.protocol.loki import PushBody
from tracehub.protocol.otlp_json import ExportLogsServiceRequest
from tracehub.protocol.retention import DAYS_MAX, PolicyBody
from tracehub.protocol.severity import HIGHEST, LOG_SERVICE, LOGSTREAM
from tracehub.protocol.shapes import REFERENCE, Schema, described
from tracehub.storage.postgres.counting import INTERVALS_MS

_STRING: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_NUMBER: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": SEQ_MAX}
_ANY: Final[Schema] = {}
_TEXTS: Final = ("trace_id", "span_id", "request_id", "user_id", "source", "host", "environment")


def ref(name: str) -> Schema:
    """A schema that stands among the components."""
    return {"$ref": REFERENCE + name}


def _object(properties: dict[str, Schema], required: Iterable[str] = (), **more: Any) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), **more}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _success(data: Schema) -> Schema:
    """The log service's shape."""
    meta = _object(
        {
            "completeness": ref("Completeness"),
            "estimated": {"const": True, "description": "total_count is about right"},
            "truncated": {"const": True, "description": "go on with next_cursor"},
            "next_cursor": _STRING,
            "interval": {"enum": list(INTERVALS_MS)},
        }
    )
    return _object({"success": {"const": True}, "data": data, "meta": meta}, ("success", "data"))


_ID: Final[Schema] = {"type": "string", "format": "uuid"}
_TEXT_FIELDS: Final = {name: {"type": "string", "maxLength": TEXT_CHARS_MAX[name]} for name in _TEXTS}
_MINUTES: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": MINUTES_MAX}
_COUNTS: Final = {"type": "object", "additionalProperties": _COUNT}

ANSWERS: Final[dict[str, Schema]] = {
    "LogEntry": _object(
        {
            "id": _ID,
            "tenant_id": _ID,
            "service_name": _STRING,
            "level": {"enum": [word.upper() for word in LOG_SERVICE]},
            "severity": {"type": "integer", "minimum": 1, "maximum": HIGHEST},
            "message": _STRING,
            "timestamp": _TIME,
            "created_at": _TIME,
            "door": _STRING,
            "metadata": _ANY,
            **_TEXT_FIELDS,
            **dict.fromkeys(
                ("level_text", "app_id", "category", "batch_id", "user_agent", "release", "service"), _STRING
            ),
            **dict.fromkeys(("epoch", "seq"), _COUNT),
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
            "entries": _list(ref("LogEntry")),
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
    "Key": _object(
        {
            "id": _ID,
            "name": _STRING,
            "scopes": _list({"enum": list(SCOPES)}),
            "tenant_id": _or_null(_ID),
            "app_key": _or_null(_STRING),
            "doors": _or_null(_list({"enum": list(DOORS)})),
            "rate": _or_null({"type": "number"}),
            "expires_at": _or_null(_TIME),
            "created_at": _TIME,
            "key": {"type": "string", "description": "shown once, to who makes it"},
        },
        ("id", "name", "scopes", "tenant_id", "app_key", "doors", "rate", "expires_at", "created_at"),
    ),
    "RetentionPolicy": _object(
        {
            "id": _ID,
            "tenant_id": _ID,
            "retention_days": {"type": "integer", "minimum": 1, "maximum": DAYS_MAX},
            "max_size_gb": {"type": "number"},
            "archive_enabled": {"type": "boolean"},
            "archive_path": _or_null(_STRING),
            "created_at": _TIME,
            "updated_at": _TIME,
        },
        (
            "id",
            "tenant_id",
            "retention_days",
            "max_size_gb",
            "archive_enabled",
            "archive_path",
            "created_at",
            "updated_at",
        ),
    ),
    "RetentionRun": _object(
        {
            "id": _ID,
            "started_at": _or_null(_TIME),
            "finished_at": _or_null(_TIME),
            "dry_run": {"type": "boolean"},
            **dict.fromkeys(("archived", "deleted_rows", "dropped_partitions"), _COUNT),
            "error": _or_null(_STRING),
        },
        ("id", "started_at", "finished_at", "dry_run", "archived", "deleted_rows", "error", "tenants"),
    ),
    "Alert": _object(
        {
            "id": _ID,
            "tenant_id": _ID,
            "name": _STRING,
            "description": _STRING,
            "enabled": {"type": "boolean"},
            "filter": {"type": "object"},
            "threshold": {"type": "integer", "minimum": 1, "maximum": THRESHOLD_MAX},
            "window_mins": _MINUTES,
            "severity": {"enum": list(SEVERITIES)},
            "cooldown_mins": _MINUTES,
            "channels": _list({"anyOf": [_STRING, {"type": "object"}]}),
            "last_triggered": _or_null(_TIME),
            "created_at": _TIME,
            "updated_at": _TIME,
        },
        ("id", "tenant_id", "name", "enabled", "filter", "threshold", "window_mins", "severity", "channels"),
    ),
    "AlertDelivery": _object(
        {
            "id": _ID,
            "alert_id": _ID,
            "type": _STRING,
            "status": _STRING,
            "attempts": _COUNT,
            "http_status": {"type": ["integer", "null"]},
            "error": _or_null(_STRING),
            "created_at": _TIME,
            "next_attempt_at": _or_null(_TIME),
            "finished_at": _or_null(_TIME),
        },
        ("id", "alert_id", "type", "status", "attempts", "http_status", "error", "created_at"),
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
    "LogstreamSaved": _object(
        {
            "saved": _COUNT,
            "entries": _list(ref("LogstreamEntry")),
            "errors": _or_null(_list(_STRING)),
        },
        ("saved", "entries", "errors"),
    ),
    "LogstreamError": _object({"error": _STRING, "reason": _STRING}, ("error",)),
}


@dataclass(frozen=True, slots=True)
class Described:
    """What goes in and out of a route: `query` are parameters and their schemas, `body` is the type of it (`optional`:
    nothing is a body, too), `ok` a status, `answer` its schema (None: no body), `also` another status that is well.
    once: an Idempotency-Key is heeded."""

    query: dict[str, Schema] = field(default_factory=dict)
    body: type | None = None
    answer: Schema | None = None
    ok: int = 200
    kind: str = "application/json"
    optional: bool = False
    also: int | None = None
    once: bool = False


def _parameter(schema: Schema) -> Schema:
    """A field of a body as it is written in a query string: of alternatives the list, which is the name repeated."""
    kinds = {one.get("type"): one for one in schema.get("anyOf", (schema,))}
    return kinds.get("array") or kinds.get("string") or schema


_QUERY: Final = {
    name: _parameter(schema)
    for name, schema in described([QueryBody])["QueryBody"]["properties"].items()
    if name != "metadata"
}
_ALL: Final = {"all_tenants": {"type": "boolean", "description": "for admins of all tenants"}}
_PAGING: Final = {name: _QUERY[name] for name in PAGING}
_FILTER: Final = {name: schema for name, schema in _QUERY.items() if name not in PAGING} | _ALL
_CURSOR: Final = {"cursor": _STRING}
_LIMITS: Final = {
    "limit": {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE_DEFAULT},
    "offset": _COUNT,
}
_LOGSTREAM_QUERY: Final = {
    **dict.fromkeys(
        ("app_key", "app_id", "trace_id", "batch_id", "level", "min_level", "user_agent", "category", "search",
         "date_from", "date_to", "door", "cursor"),
        _STRING,
    ),
    "limit": {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT},
    "offset": _COUNT,
}  # fmt: skip
_LOGSTREAM_PAGE: Final = _object(
    {
        "total": _COUNT,
        "limit": _COUNT,
        "offset": _COUNT,
        "entries": _list(ref("LogstreamEntry")),
        "next_cursor": {"type": ["string", "null"]},
    },
    ("total", "limit", "offset", "entries"),
)
_AROUND: Final = _object(
    {"before": _list(ref("LogEntry")), "after": _list(ref("LogEntry"))}, ("before", "after")
)
_WHOAMI: Final = _object(
    {
        **{key: {"type": "boolean"} for key in ("loggedIn", "admin", "allTenants")},
        **{key: {"type": ["string", "null"]} for key in ("keyId", "appKey")},
        "tenantId": _ID,
    },
    ("loggedIn", "keyId", "admin", "allTenants", "tenantId", "appKey"),
)
_ALERT: Final = _success(ref("Alert"))
_POLICY: Final = _success(ref("RetentionPolicy"))

DESCRIBED: Final[dict[tuple[str, str], Described]] = {
    ("POST", "/ingest"): Described(
        {"acks": {"enum": ["stored", "queued"]}}, WireBatch, {"type": "object"}, also=202
    ),
    ("GET", "/ack/{service}"): Described({"epoch": _COUNT}, answer={"type": "object"}),
    ("GET", "/proof"): Described({"service": _STRING}, answer={"type": "object"}),
    ("GET", "/sequence/{service}"): Described(
        {"epoch": _COUNT, "from": _NUMBER, "to": _NUMBER}, answer={"type": "object"}
    ),
    ("GET", "/replay"): Described(
        {"status": {"enum": list(REPLAY_STATUSES)}, "service": _STRING, **_LIMITS}, answer={"type": "object"}
    ),
    ("POST", "/replay"): Described(body=ReplayBody, answer=_object({"id": _COUNT}, ("id",)), ok=202),
    ("GET", "/dead-letters"): Described(
        {"service": _STRING, "reason": _STRING, **_LIMITS}, answer={"type": "object"}
    ),
    ("DELETE", "/dead-letters/{id}"): Described(ok=204),
    ("POST", "/metrics/control"): Described(body=FaultBody, answer={"type": "object"}),
    ("GET", "/login"): Described({"next": _STRING}, answer=_STRING, kind="text/html", also=303),
    ("GET", "/login.css"): Described(answer=_STRING, kind="text/css"),
    ("POST", "/login"): Described(ok=303),
    ("POST", "/logout"): Described(ok=303),
    ("GET", "/metrics"): Described(answer=_STRING, kind="text/plain"),
    ("GET", "/whoami"): Described({"tenant_id": _STRING}, answer=_WHOAMI),
    ("GET", "/api/v1/logs"): Described({**_FILTER, **_PAGING}, answer=_success(ref("LogQueryResult"))),
    ("POST", "/api/v1/logs"): Described(
        body=LogEntryBody, answer=_success(ref("LogEntry")), ok=201, once=True
    ),
    ("POST", "/api/v1/logs/batch"): Described(
        body=LogBatchBody,
        answer=_success(_object({"count": _COUNT, "duplicates": _COUNT}, ("count",))),
        ok=201,
        once=True,
    ),
    ("POST", "/api/v1/logs/query"): Described(body=QueryBody, answer=_success(ref("LogQueryResult"))),
    ("GET", "/api/v1/logs/{id}"): Described(answer=_success(ref("LogEntry"))),
    ("GET", "/api/v1/logs/{id}/around"): Described(
        {"lines": {"type": "integer", "minimum": 1, "maximum": AROUND_MAX, "default": AROUND}},
        answer=_success(_AROUND),
    ),
    ("GET", "/api/v1/logs/trace/{trace_id}"): Described(_CURSOR, answer=_success(_list(ref("LogEntry")))),
    ("GET", "/api/v1/logs/request/{request_id}"): Described(_CURSOR, answer=_success(_list(ref("LogEntry")))),
    ("GET", "/api/v1/logs/stats"): Described(_FILTER, answer=_success(ref("Stats"))),
    ("POST", "/api/v1/logs/aggregate"): Described(
        {"interval": {"enum": list(INTERVALS_MS), "default": "hour"}},
        AggregateBody,
        _success(_list(ref("Bucket"))),
        optional=True,
    ),
    ("GET", "/api/v1/logs/services"): Described(answer=_success(_list(_STRING))),
    ("GET", "/api/v1/logs/storage"): Described(answer=_success(ref("Storage"))),
    ("GET", "/api/v1/logs/stream"): Described(
        {
            **{name: schema for name, schema in _FILTER.items() if name not in TIMES},
            **dict.fromkeys(("last_event_id", "tenant_id", "token"), _STRING),
        },
        answer=_STRING,
        kind="text/event-stream",
    ),
    ("GET", "/api/v1/keys"): Described(answer=_success(_list(ref("Key")))),
    ("POST", "/api/v1/keys"): Described(body=KeyBody, answer=_success(ref("Key")), ok=201),
    ("DELETE", "/api/v1/keys/{id}"): Described(ok=204),
    ("GET", "/api/v1/retention"): Described(answer=_success(_list(ref("RetentionPolicy")))),
    ("POST", "/api/v1/retention"): Described(body=PolicyBody, answer=_POLICY, ok=201),
    ("GET", "/api/v1/retention/tenant/{tenant_id}"): Described(answer=_POLICY),
    ("PUT", "/api/v1/retention/{id}"): Described(body=PolicyBody, answer=_POLICY),
    ("DELETE", "/api/v1/retention/{id}"): Described(ok=204),
    ("POST", "/api/v1/retention/run"): Described(
        {"dry_run": {"type": "boolean"}}, answer=_success(_object({"run_id": _ID}, ("run_id",))), ok=202
    ),
    ("GET", "/api/v1/retention/runs"): Described(answer=_success(_list(ref("RetentionRun")))),
    ("GET", "/api/v1/alerts"): Described(answer=_success(_list(ref("Alert")))),
    ("POST", "/api/v1/alerts"): Described(body=AlertBody, answer=_ALERT, ok=201),
    ("GET", "/api/v1/alerts/{id}"): Described(answer=_ALERT),
    ("PUT", "/api/v1/alerts/{id}"): Described(body=AlertChanges, answer=_ALERT),
    ("DELETE", "/api/v1/alerts/{id}"): Described(ok=204),
    ("POST", "/api/v1/alerts/{id}/enable"): Described(ok=204),
    ("POST", "/api/v1/alerts/{id}/disable"): Described(ok=204),
    ("POST", "/api/v1/alerts/{id}/test"): Described(
        answer=_success(_object({"deliveries": _list(_ID)}, ("deliveries",))), ok=202
    ),
    ("GET", "/api/v1/alerts/{id}/deliveries"): Described(
        {"limit": {**_LIMITS["limit"], "maximum": DELIVERIES_MAX, "default": DELIVERIES}, "offset": _COUNT},
        answer=_success(_list(ref("AlertDelivery"))),
    ),
    ("GET", "/api/logs"): Described(_LOGSTREAM_QUERY, answer=_LOGSTREAM_PAGE),
    ("POST", "/api/logs"): Described(body=LogstreamBody, answer=ref("LogstreamSaved"), ok=201, once=True),
    ("GET", "/api/logs/{id}"): Described(answer=ref("LogstreamEntry")),
    ("POST", "/loki/api/v1/push"): Described(body=PushBody, ok=204, once=True),
    ("POST", "/v1/logs"): Described(body=ExportLogsServiceRequest, answer={"type": "object"}, once=True),
}
