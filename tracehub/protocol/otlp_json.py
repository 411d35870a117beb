"""ExportLogsServiceRequest in OTLP/JSON, as the parts of otlp_values.py.

Names in camelCase, as the standard has them, or in snake_case, as some senders do; 64-bit integers as text or numbers;
enums by number or name; null is absent; unknown fields are ignored. What is nested deeper than any value may be is left
out before it is read: what is left of it is still too deep, and its record is rejected, not the request.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from tracehub.protocol.errors import InvalidJSON
from tracehub.protocol.jsontext import mended, pruned
from tracehub.protocol.otlp_values import (
    TOO_DEEP,
    VALUE_DEPTH_MAX,
    Record,
    Resource,
    Scope,
    TooDeep,
    about_scope,
    double,
    wide,
)

# A record's value begins 10 brackets deep; a level is at most 4 (kvlistValue, values, pair, value).
TEXT_DEPTH_MAX: Final = 10 + 4 * (VALUE_DEPTH_MAX + 1)
DIGITS_MAX: Final = 40  # no integer of the protocol has more; Python's own reader of long ones is slow
_HEX: Final = re.compile(r"[0-9a-fA-F]*").fullmatch
_SEVERITIES: Final = {
    f"SEVERITY_NUMBER_{word}{more or ''}": first + max(0, more - 1)
    for first, word in ((1, "TRACE"), (5, "DEBUG"), (9, "INFO"), (13, "WARN"), (17, "ERROR"), (21, "FATAL"))
    for more in (0, 2, 3, 4)
}
Integer = int | float | str | None


class AnyValue(msgspec.Struct, gc=False, rename="camel"):
    """One of its fields is set."""

    string_value: str | None = None
    bool_value: bool | None = None
    int_value: Integer = None
    double_value: Integer = None
    array_value: ArrayValue | None = None
    kvlist_value: KeyValueList | None = None
    bytes_value: str | None = None
    snake_string: str | None = msgspec.field(default=None, name="string_value")
    snake_bool: bool | None = msgspec.field(default=None, name="bool_value")
    snake_int: Integer = msgspec.field(default=None, name="int_value")
    snake_double: Integer = msgspec.field(default=None, name="double_value")
    snake_array: ArrayValue | None = msgspec.field(default=None, name="array_value")
    snake_kvlist: KeyValueList | None = msgspec.field(default=None, name="kvlist_value")
    snake_bytes: str | None = msgspec.field(default=None, name="bytes_value")


class KeyValue(msgspec.Struct, gc=False):
    """An attribute."""

    key: str | None = None
    value: AnyValue | None = None


class ArrayValue(msgspec.Struct, gc=False):
    """A list."""

    values: list[AnyValue | None] | None = None


class KeyValueList(msgspec.Struct, gc=False):
    """A map."""

    values: list[KeyValue] | None = None


class OtlpResource(msgspec.Struct):
    """Who sends: service.name and more."""

    attributes: list[KeyValue] | None = None


class InstrumentationScope(msgspec.Struct):
    """Which part of it."""

    name: str | None = None
    version: str | None = None
    attributes: list[KeyValue] | None = None


class LogRecord(msgspec.Struct, gc=False, rename="camel"):
    """An entry."""

    time_unix_nano: Integer = None
    observed_time_unix_nano: Integer = None
    severity_number: int | float | str | None = None
    severity_text: str | None = None
    body: AnyValue | None = None
    attributes: list[KeyValue] | None = None
    trace_id: str | None = None
    span_id: str | None = None
    event_name: str | None = None
    snake_time: Integer = msgspec.field(default=None, name="time_unix_nano")
    snake_observed: Integer = msgspec.field(default=None, name="observed_time_unix_nano")
    snake_number: int | float | str | None = msgspec.field(default=None, name="severity_number")
    snake_text: str | None = msgspec.field(default=None, name="severity_text")
    snake_trace: str | None = msgspec.field(default=None, name="trace_id")
    snake_span: str | None = msgspec.field(default=None, name="span_id")
    snake_event: str | None = msgspec.field(default=None, name="event_name")


class ScopeLogs(msgspec.Struct):
    """The records of a scope."""

    scope: InstrumentationScope | None = None
    camel: list[LogRecord] | None = msgspec.field(default=None, name="logRecords")
    snake: list[LogRecord] | None = msgspec.field(default=None, name="log_records")


class ResourceLogs(msgspec.Struct):
    """The scopes of a resource."""

    resource: OtlpResource | None = None
    camel: list[ScopeLogs] | None = msgspec.field(default=None, name="scopeLogs")
    snake: list[ScopeLogs] | None = msgspec.field(default=None, name="scope_logs")


class ExportLogsServiceRequest(msgspec.Struct):
    """The body of POST /v1/logs."""

    camel: list[ResourceLogs] | None = msgspec.field(default=None, name="resourceLogs")
    snake: list[ResourceLogs] | None = msgspec.field(default=None, name="resource_logs")


_decoder: Final = msgspec.json.Decoder(ExportLogsServiceRequest)


def resources(body: bytes) -> list[Resource]:
    """Raises InvalidJSON."""
    text = mended(body)
    try:
        try:
            request = _decoder.decode(text)
        except RecursionError:
            request = _decoder.decode(pruned(text, TEXT_DEPTH_MAX))
    except msgspec.ValidationError:
        raise InvalidJSON("the body is not a valid ExportLogsServiceRequest") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidJSON from None
    return [_resource(logs) for logs in request.camel or request.snake or ()]


def _resource(logs: ResourceLogs) -> Resource:
    given = logs.resource.attributes if logs.resource else None
    return Resource(lambda: _attributes(given), [_scope(scope) for scope in logs.camel or logs.snake or ()])


def _scope(logs: ScopeLogs) -> Scope:
    scope = logs.scope or InstrumentationScope()
    return Scope(
        lambda: about_scope(scope.name or "", scope.version or "", _attributes(scope.attributes)),
        logs.camel or logs.snake or [],
        _record,
    )


def _record(given: LogRecord) -> Record:
    return Record(
        _unsigned(given.time_unix_nano or given.snake_time),
        _unsigned(given.observed_time_unix_nano or given.snake_observed),
        _severity(given.severity_number or given.snake_number),
        given.severity_text or given.snake_text or "",
        None if given.body is None else _value(given.body, VALUE_DEPTH_MAX),
        _attributes(given.attributes),
        _id(given.trace_id or given.snake_trace, 32),
        _id(given.span_id or given.snake_span, 16),
        given.event_name or given.snake_event or "",
    )


def _attributes(given: list[KeyValue] | None, room: int = VALUE_DEPTH_MAX) -> dict[str, Any]:
    if not given:
        return {}
    return {pair.key or "": None if pair.value is None else _value(pair.value, room) for pair in given}


def _value(given: AnyValue, room: int) -> Any:  # noqa: PLR0911 (a case for each kind)
    if (text := given.string_value) is not None or (text := given.snake_string) is not None:
        return text
    if (number := given.int_value) is not None or (number := given.snake_int) is not None:
        return wide(_integer(number))
    if (truth := given.bool_value) is not None or (truth := given.snake_bool) is not None:
        return truth
    if (number := given.double_value) is not None or (number := given.snake_double) is not None:
        return _double(number)
    if (array := given.array_value or given.snake_array) is not None:
        _require(room)
        return [None if item is None else _value(item, room - 1) for item in array.values or ()]
    if (pairs := given.kvlist_value or given.snake_kvlist) is not None:
        _require(room)
        return _attributes(pairs.values, room - 1)
    return given.bytes_value if given.bytes_value is not None else given.snake_bytes


def _require(room: int) -> None:
    if room < 1:
        raise TooDeep(TOO_DEEP)


def _integer(given: int | float | str) -> int:
    """Digits, as JSON or as text; `1.5e3` is 1500."""
    if isinstance(given, int):
        return given
    try:
        if isinstance(given, str) and len(given) < DIGITS_MAX and given.lstrip("-").isdecimal():
            return int(given)
        return int(float(given))
    except (ValueError, OverflowError):
        raise InvalidJSON("an integer of the body cannot be read") from None


def _unsigned(given: Integer) -> int:
    return 0 if given is None else max(0, _integer(given))


def _double(given: int | float | str) -> float | str:
    try:
        return double(float(given))
    except (ValueError, OverflowError):
        raise InvalidJSON("a number of the body cannot be read") from None


def _severity(given: int | float | str | None) -> int:
    if isinstance(given, str) and not given.isdecimal():
        return _SEVERITIES.get(given.upper(), 0)
    return 0 if given is None else _integer(given)


def _id(given: str | None, digits: int) -> str | None:
    if given is None or len(given) != digits or not _HEX(given) or not given.strip("0"):
        return None
    return given.lower()
