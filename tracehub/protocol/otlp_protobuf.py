"""ExportLogsServiceRequest in protobuf, as the parts of otlp_values.py.

The official classes read what is well and shallow. What they refuse is read again through an envelope whose values and
texts stay bytes, so that one deep or odd value is no reason to refuse its request; what that refuses is damaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage

from tracehub.protocol.errors import InvalidJSON, TooLarge
from tracehub.protocol.otlp_values import (
    Record,
    Resource,
    Scope,
    about_scope,
    clean,
    pair_in,
    pairs,
    text_of,
    value_in,
    value_of,
)
from tracehub.protocol.protobuf import classes

ODD_BYTES_MAX: Final = 4 * 1024 * 1024  # read value by value, a megabyte takes most of a second
_ENVELOPE: Final = classes(
    "tracehub.otlp",
    {
        "Request": [("resource_logs", 1, "ResourceLogs*")],
        "ResourceLogs": [("resource", 1, "Resource"), ("scope_logs", 2, "ScopeLogs*")],
        "ScopeLogs": [("scope", 1, "Scope"), ("log_records", 2, "LogRecord*")],
        "Resource": [("attributes", 1, "bytes*")],
        "Scope": [("name", 1, "bytes"), ("version", 2, "bytes"), ("attributes", 3, "bytes*")],
        "LogRecord": [
            ("time_unix_nano", 1, "fixed64"),
            ("severity_number", 2, "int32"),
            ("severity_text", 3, "bytes"),
            ("body", 5, "bytes"),
            ("attributes", 6, "bytes*"),
            ("trace_id", 9, "bytes"),
            ("span_id", 10, "bytes"),
            ("observed_time_unix_nano", 11, "fixed64"),
            ("event_name", 12, "bytes"),
        ],
    },
)["Request"]


def resources(body: bytes) -> list[Resource]:
    """Raises InvalidJSON, or TooLarge for what the official classes refuse."""
    try:
        return [_plain_resource(logs) for logs in ExportLogsServiceRequest.FromString(body).resource_logs]
    except DecodeError:
        pass
    if len(body) > ODD_BYTES_MAX:
        raise TooLarge("a request with odd or deeply nested values may have at most 4 MiB")
    try:
        return [_odd_resource(logs) for logs in _ENVELOPE.FromString(body).resource_logs]
    except DecodeError:
        raise InvalidJSON("the body is not a valid ExportLogsServiceRequest") from None


def _hex(given: bytes, size: int) -> str | None:
    return given.hex() if len(given) == size and given.count(0) < size else None


def _plain_resource(logs: Any) -> Resource:
    resource: ResourceMessage = logs.resource
    return Resource(lambda: pairs(resource.attributes), [_plain_scope(scope) for scope in logs.scope_logs])


def _plain_scope(logs: Any) -> Scope:
    scope: InstrumentationScope = logs.scope
    return Scope(
        lambda: about_scope(clean(scope.name), clean(scope.version), pairs(scope.attributes)),
        logs.log_records,
        _plain_record,
    )


def _plain_record(record: LogRecord) -> Record:
    body: AnyValue = record.body
    return Record(
        record.time_unix_nano,
        record.observed_time_unix_nano,
        record.severity_number,
        clean(record.severity_text),
        value_of(body),
        pairs(record.attributes),
        _hex(record.trace_id, 16),
        _hex(record.span_id, 8),
        clean(record.event_name),
    )


def _odd_pairs(attributes: Sequence[bytes]) -> dict[str, Any]:
    return dict(pair_in(data) for data in attributes)


def _odd_resource(logs: Any) -> Resource:
    return Resource(
        lambda: _odd_pairs(logs.resource.attributes), [_odd_scope(scope) for scope in logs.scope_logs]
    )


def _odd_scope(logs: Any) -> Scope:
    scope = logs.scope
    return Scope(
        lambda: about_scope(text_of(scope.name), text_of(scope.version), _odd_pairs(scope.attributes)),
        logs.log_records,
        _odd_record,
    )


def _odd_record(record: Any) -> Record:
    return Record(
        record.time_unix_nano,
        record.observed_time_unix_nano,
        record.severity_number,
        text_of(record.severity_text),
        value_in(record.body),
        _odd_pairs(record.attributes),
        _hex(record.trace_id, 16),
        _hex(record.span_id, 8),
        text_of(record.event_name),
    )
