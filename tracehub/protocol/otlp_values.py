"""Values of OpenTelemetry as JSON values, from protobuf; the parts that both encodings of OTLP become.

Guarantee: a value nested up to VALUE_DEPTH_MAX levels is read, whatever the parser's own limit (a hundred messages,
which are 32 levels of lists of pairs); one that is deeper is TooDeep, and costs its record only. Text is mended.
Doubles that JSON has not become text, as bytes become base64: both as OTLP/JSON writes them.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from tracehub.protocol.errors import InvalidJSON
from tracehub.protocol.lenient import mend_text
from tracehub.protocol.limits import JSON_DEPTH_MAX

VALUE_DEPTH_MAX: Final = JSON_DEPTH_MAX
TOO_DEEP: Final = f"attributes may be nested {VALUE_DEPTH_MAX} levels deep"
_double: Final = struct.Struct("<d").unpack


class TooDeep(ValueError):
    """The record is rejected, the request is not."""


class Record(NamedTuple):
    """One log record in Python's values. Times in nanoseconds, 0 where absent; ids as hex, None where they are none."""

    time: int
    observed: int
    severity: int
    level: str
    body: Any
    attributes: dict[str, Any]
    trace_id: str | None
    span_id: str | None
    event: str


class Scope(NamedTuple):
    """Records of one instrumentation scope; `about` and `read` raise TooDeep."""

    about: Callable[[], dict[str, Any]]
    records: Sequence[Any]
    read: Callable[[Any], Record]


class Resource(NamedTuple):
    """What one resource logged; `attributes` raises TooDeep."""

    attributes: Callable[[], dict[str, Any]]
    scopes: Sequence[Scope]


def about_scope(name: str, version: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """`attrs.scope`: only what is there."""
    about = {"name": name, "version": version, "attributes": attributes}
    return {key: value for key, value in about.items() if value}


def clean(text: str) -> str:
    """Text of a parser that takes only Unicode: nothing but U+0000 can be odd in it."""
    return text.replace("\0", "\ufffd") if "\0" in text else text


def double(value: float) -> float | str:
    """JSON has no infinities."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def wide(number: int) -> int | str:
    """What is no 64-bit integer is kept as it is written."""
    return number if -(2**63) <= number < 2**64 else str(number)


def base64_of(value: bytes) -> str:
    """As OTLP/JSON writes bytes."""
    return base64.b64encode(value).decode()


def pairs(attributes: Iterable[KeyValue], room: int = VALUE_DEPTH_MAX) -> dict[str, Any]:
    """Attributes by their keys; the last of equal ones counts."""
    return {clean(pair.key): value_of(pair.value, room) for pair in attributes}


def value_of(value: AnyValue, room: int = VALUE_DEPTH_MAX) -> Any:  # noqa: PLR0911 (a case for each kind)
    """`room`: how many levels may follow. Raises TooDeep."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        text = value.string_value
        return clean(text) if "\0" in text else text
    if kind == "int_value":
        return value.int_value
    if kind == "bool_value":
        return value.bool_value
    if kind == "double_value":
        return double(value.double_value)
    if kind == "bytes_value":
        return base64_of(value.bytes_value)
    if kind == "array_value":
        _require(room)
        return [value_of(item, room - 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        _require(room)
        return pairs(value.kvlist_value.values, room - 1)
    return None


def _require(room: int) -> None:
    if room < 1:
        raise TooDeep(TOO_DEEP)


# ------------------------------------------------------------------ the same by hand, where the parser gives up


def text_of(data: bytes) -> str:
    """Any bytes as text: UTF-8, surrogates mended, what is neither replaced."""
    try:
        return mend_text(data.decode("utf-8", "surrogatepass"))
    except UnicodeDecodeError:
        return mend_text(data.decode("utf-8", "replace"))


def pair_in(data: bytes, room: int = VALUE_DEPTH_MAX) -> tuple[str, Any]:
    """A KeyValue that may be nested deeper than the parser goes, or hold text that is not UTF-8. Raises InvalidJSON,
    TooDeep."""
    if room == VALUE_DEPTH_MAX:
        try:
            pair = KeyValue.FromString(data)
        except DecodeError:
            pass
        else:
            return clean(pair.key), value_of(pair.value)
    key, value = "", None
    for number, wire, content in _fields(memoryview(data)):
        if (number, wire) == (1, 2):
            key = text_of(bytes(content))
        elif (number, wire) == (2, 2):
            value = value_in(content, room)
    return key, value


def value_in(data: Any, room: int = VALUE_DEPTH_MAX) -> Any:
    """An AnyValue by hand."""
    value: Any = None
    for number, wire, content in _fields(memoryview(data)):
        read = _READERS.get((number, wire))
        if read is not None:
            value = read(content, room)
    return value


def _signed(number: int, _: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _list(data: memoryview, room: int) -> list[Any]:
    _require(room)
    return [value_in(item, room - 1) for item in _repeated(data)]


def _dict(data: memoryview, room: int) -> dict[str, Any]:
    _require(room)
    return dict(pair_in(item, room - 1) for item in _repeated(data))


# By field number and wire type of AnyValue.
_READERS: Final[dict[tuple[int, int], Callable[[Any, int], Any]]] = {
    (1, 2): lambda data, _: text_of(bytes(data)),
    (2, 0): lambda number, _: number != 0,
    (3, 0): _signed,
    (4, 1): lambda data, _: double(_double(data)[0]),
    (5, 2): _list,
    (6, 2): _dict,
    (7, 2): lambda data, _: base64_of(bytes(data)),
}


def _repeated(data: memoryview) -> Iterator[Any]:
    return (content for number, wire, content in _fields(data) if (number, wire) == (1, 2))


def _fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, content) of a message: an integer for varints, else bytes. Raises InvalidJSON."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            content, at = _varint(data, at)
            yield tag >> 3, wire, content
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise InvalidJSON("the body is not valid protobuf")
        if tag < 8 or at + size > end:
            raise InvalidJSON("the body is not valid protobuf")
        yield tag >> 3, wire, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & (1 << 64) - 1, at
    raise InvalidJSON("the body is not valid protobuf")
