"""OTLP/HTTP logs: an ExportLogsServiceRequest in, canonical entries out; and the answers (log-service.md §8). Pure.

1. Every record is an entry or is counted as rejected, in order; a rejected one says why and costs only itself.
2. Attributes stay as they came, also those that have a column of their own; `resource`, `scope`, `event_name`, `body`,
   `time_unix_nano` and `truncated` are added to them, and what a sender calls so moves to `_resource` and so on.
3. A body that is no text is the message as JSON, and whole in `attrs.body` as far as attributes may be so large.
Limits: DRAFTS_MAX records, ATTRS_BYTES_MAX and VALUE_DEPTH_MAX per record. Raises InvalidJSON, TooLarge.
Not here: HTTP (apps/backend/doors/otlp.py), the two encodings (otlp_protobuf.py, otlp_json.py).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from tracehub.protocol import drafts, otlp_json, otlp_protobuf
from tracehub.protocol.drafts import Drafts, keep
from tracehub.protocol.limits import ATTRS_BYTES_MAX, LEVEL_CHARS_MAX
from tracehub.protocol.messages import Entry, Own
from tracehub.protocol.otlp_values import Record, Resource, TooDeep
from tracehub.protocol.severity import HIGHEST, number_of, word_of

TOO_MUCH: Final = f"attributes are larger than {ATTRS_BYTES_MAX} bytes"
_encode = msgspec.json.Encoder().encode


def read_protobuf(body: bytes, now_ms: int) -> Drafts:
    """`application/x-protobuf`."""
    return _drafts(otlp_protobuf.resources(body), now_ms)


def read_json(body: bytes, now_ms: int) -> Drafts:
    """`application/json`."""
    return _drafts(otlp_json.resources(body), now_ms)


def response(rejected: int, message: str, as_json: bool) -> bytes:
    """ExportLogsServiceResponse; empty when nothing was rejected and there is nothing to say."""
    if not rejected and not message:
        return b"{}" if as_json else b""
    if as_json:
        return _encode({"partialSuccess": {"rejectedLogRecords": str(rejected), "errorMessage": message}})
    made = ExportLogsServiceResponse()
    made.partial_success.rejected_log_records = rejected
    made.partial_success.error_message = message
    return made.SerializeToString()


def status(code: int, message: str, as_json: bool) -> bytes:
    """google.rpc.Status; `code` is one of google.rpc.Code."""
    if as_json:
        return _encode({"code": code, "message": message})
    written: bytes = Status(code=code, message=message).SerializeToString()
    return written


class _TooMuch(ValueError):
    pass


class _Shared(NamedTuple):
    """What the records of a scope have in common."""

    own: Own
    environment: str | None
    host: str | None
    release: str | None
    resource: msgspec.Raw | None
    scope: msgspec.Raw | None


def _drafts(resources: list[Resource], now_ms: int) -> Drafts:
    drafts.require_few(sum(len(s.records) for r in resources for s in r.scopes), "log records")
    entries: list[Entry] = []
    rejected, reason, size = 0, "", 0

    def reject(records: int, why: Exception) -> None:
        nonlocal rejected, reason
        rejected += records
        reason = reason or str(why)

    for resource in resources:
        try:
            shared = _shared(resource.attributes())
        except (TooDeep, _TooMuch) as error:
            reject(sum(len(scope.records) for scope in resource.scopes), error)
            continue
        for scope in resource.scopes:
            try:
                here = shared._replace(scope=_raw(scope.about()))
            except (TooDeep, _TooMuch) as error:
                reject(len(scope.records), error)
                continue
            for record in scope.records:
                try:
                    entry = _entry(here, scope.read(record), now_ms)
                except (TooDeep, _TooMuch) as error:
                    reject(1, error)
                    continue
                size += len(entry.message) + len(entry.attrs or b"")
                drafts.require_small(size)
                entries.append(entry)
    return Drafts(entries, rejected, reason)


def _shared(attributes: dict[str, Any]) -> _Shared:
    service = drafts.service_of(_plain(attributes, "service.name"))
    return _Shared(
        Own("", service),
        drafts.name_of(
            _plain(attributes, "deployment.environment.name", "deployment.environment"), "environment"
        ),
        drafts.name_of(_plain(attributes, "host.name"), "host"),
        drafts.name_of(_plain(attributes, "service.version"), "release"),
        _raw(attributes),
        None,
    )


def _plain(attributes: dict[str, Any], *names: str) -> str | None:
    """The first of these attributes that is there, as text; containers have none."""
    for name in names:
        if name in attributes:
            value = attributes[name]
            if isinstance(value, str) and value:
                return value
            if isinstance(value, (bool, int, float)):
                return _encode(value).decode()
    return None


def _raw(value: dict[str, Any]) -> msgspec.Raw | None:
    if not value:
        return None
    encoded = _encode(value)
    if len(encoded) > ATTRS_BYTES_MAX:
        raise _TooMuch(TOO_MUCH)
    return msgspec.Raw(encoded)


def _entry(shared: _Shared, record: Record, now_ms: int) -> Entry:
    attrs = record.attributes
    user = drafts.id_of(_plain(attrs, "user.id", "enduser.id"), "user_id")
    request = drafts.id_of(_plain(attrs, "request.id", "request_id"), "request_id")
    nanos = record.time or record.observed
    ts_ms = drafts.in_range(nanos, now_ms) if nanos else None
    if nanos and ts_ms is None:
        keep(attrs, "time_unix_nano", str(nanos))
    severity = record.severity if 1 <= record.severity <= HIGHEST else number_of(record.level or None)
    if shared.resource is not None:
        keep(attrs, "resource", shared.resource)
    if shared.scope is not None:
        keep(attrs, "scope", shared.scope)
    if record.event:
        keep(attrs, "event_name", record.event)
    message, encoded = _message_and_attrs(record, attrs)
    return Entry(
        0, now_ms if ts_ms is None else ts_ms, ts_ms is not None,
        severity, record.level[:LEVEL_CHARS_MAX] or word_of(severity), message, encoded,
        record.trace_id, record.span_id, request, user, None, None,
        shared.host, shared.environment, None, shared.release, None, shared.own,
    )  # fmt: skip


def _message_and_attrs(record: Record, attrs: dict[str, Any]) -> tuple[str, bytes | None]:
    """The message, and the attributes as JSON. Raises _TooMuch."""
    body = record.body
    if body is None or isinstance(body, str):
        message = drafts.cut(record.event if body is None else body, attrs)
        encoded = _encode(attrs) if attrs else None
    else:
        whole = _encode(body)
        message = drafts.cut(whole.decode(), attrs)
        with_body = dict(attrs)
        keep(with_body, "body", msgspec.Raw(whole))
        encoded = _encode(with_body)
        if len(encoded) > ATTRS_BYTES_MAX:  # the message says what there is room for
            if attrs.get("truncated") is not True:
                keep(attrs, "truncated", True)
            encoded = _encode(attrs)
    if encoded is not None and len(encoded) > ATTRS_BYTES_MAX:
        raise _TooMuch(TOO_MUCH)
    return message, encoded
