"""Loki's push API: streams of lines in, canonical entries out (log-service.md §8). Pure.

1. No line is refused: what cannot be read of it (a time, bytes that are no UTF-8, a value that is no text) is kept as
   text; what is too long is cut, and `attrs.truncated` says so.
2. Structured metadata are the attributes, the stream's labels `attrs.labels`; both stay whole, also what has a column
   of its own. Metadata go before labels, and names before others in the order of the contract.
Limits: INFLATED_BYTES_MAX, asked before anything is inflated; DRAFTS_MAX lines. Raises InvalidJSON (a damaged body),
TooLarge. Not here: HTTP (apps/backend/doors/loki.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import cramjam
import msgspec
from google.protobuf.message import DecodeError

from tracehub.protocol import drafts
from tracehub.protocol.drafts import Drafts, keep
from tracehub.protocol.errors import InvalidJSON, TooLarge
from tracehub.protocol.jsontext import mended
from tracehub.protocol.lenient import mend_text
from tracehub.protocol.limits import ATTRS_BYTES_MAX, JSON_DEPTH_MAX, LEVEL_CHARS_MAX
from tracehub.protocol.messages import Entry, Own
from tracehub.protocol.otlp_values import double, text_of, wide
from tracehub.protocol.protobuf import classes
from tracehub.protocol.severity import number_of

INFLATED_BYTES_MAX: Final = 10 * 1024 * 1024
TOO_DEEP: Final = f"JSON may be nested {JSON_DEPTH_MAX} levels deep"
NS_PER_S: Final = 1_000_000_000
SERVICE_LABELS: Final = (
    "service_name", "service", "app", "application", "app_name", "name", "app_kubernetes_io_name", "container",
    "container_name", "k8s_container_name", "component", "workload", "job", "k8s_job_name",
)  # fmt: skip
LEVEL_NAMES: Final = ("level", "detected_level", "severity", "lvl")
ENVIRONMENT_NAMES: Final = ("environment", "env")
HOST_NAMES: Final = ("host", "hostname", "instance", "node_name")
TRACE_NAMES: Final = ("trace_id", "traceID")
SPAN_NAMES: Final = ("span_id",)

_PUSH: Final = classes(
    "tracehub.loki",
    {
        "PushRequest": [("streams", 1, "Stream*")],
        "Stream": [("labels", 1, "bytes"), ("entries", 2, "Entry*")],
        "Entry": [("timestamp", 1, "Timestamp"), ("line", 2, "bytes"), ("metadata", 3, "Label*")],
        "Timestamp": [("seconds", 1, "int64"), ("nanos", 2, "int32")],
        "Label": [("name", 1, "bytes"), ("value", 2, "bytes")],
    },
)["PushRequest"]
_QUOTED: Final = r'"(?:[^"\\\n]|\\.)*"|`[^`]*`'
_LABEL: Final = re.compile(rf"\s*([A-Za-z_][\w.:]*|{_QUOTED})\s*=\s*({_QUOTED})\s*(?:,|$)").match
_ESCAPE: Final = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL
)
_ESCAPED: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_encode = msgspec.json.Encoder().encode


class _Line(NamedTuple):
    """Nanoseconds, or text that is no time; the line; its structured metadata."""

    time: int | str
    text: str
    metadata: dict[str, Any]


class _Shared(NamedTuple):
    """What the lines of a stream have in common."""

    own: Own
    labels: dict[str, Any]
    raw: msgspec.Raw | None


class PushStream(msgspec.Struct):
    """Labels, and lines as [nanoseconds, line, structured metadata?]."""

    stream: dict[str, Any] | None = None
    values: list[list[Any]] | None = None


class PushBody(msgspec.Struct):
    """The body of POST /loki/api/v1/push."""

    streams: list[PushStream] | None = None


_decoder: Final = msgspec.json.Decoder(PushBody)


def read_json(body: bytes, now_ms: int) -> Drafts:
    """`application/json`: `{"streams":[{"stream":{…},"values":[["<ns>","line",{…}?]]}]}`."""
    try:
        streams = _decoder.decode(mended(body)).streams or []
    except RecursionError:
        raise InvalidJSON(TOO_DEEP) from None
    except msgspec.ValidationError:
        raise InvalidJSON("the body is not a valid push request") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidJSON from None
    drafts.require_few(sum(len(stream.values or ()) for stream in streams), "lines")
    read = ((_plain(stream.stream or {}), map(_json_line, stream.values or ())) for stream in streams)
    return _drafts(read, now_ms)


def _json_line(value: list[Any]) -> _Line:
    if len(value) < 2:
        raise InvalidJSON("a value must be [time, line] or [time, line, metadata]")
    time, line, *more = value
    metadata = more[0] if more else None
    if metadata is not None and not isinstance(metadata, dict):
        metadata = {"_value": metadata}
    text = line if isinstance(line, str) else _json(_plain({"": line})[""])
    return _Line(_nanos(time), text, _plain(metadata) if metadata else {})


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    """Labels and metadata, which are text where senders keep to the protocol; what they hold else is looked at."""
    for value in given.values():
        if type(value) is not str:
            return {name: _bounded(value, JSON_DEPTH_MAX) for name, value in given.items()}
    return given


def _bounded(value: Any, room: int) -> Any:
    if isinstance(value, (dict, list)):
        if room < 1:
            raise InvalidJSON(TOO_DEEP)
        if isinstance(value, list):
            return [_bounded(item, room - 1) for item in value]
        return {name: _bounded(item, room - 1) for name, item in value.items()}
    if isinstance(value, float):
        return double(value)
    return wide(value) if type(value) is int else value


def _nanos(time: Any) -> int | str:
    if isinstance(time, str):
        return int(time) if len(time) < 40 and time.isascii() and time.isdigit() else time
    return int(time) if isinstance(time, (int, float)) and abs(time) < 1e30 else _json(time)


def _json(value: Any) -> str:
    return _encode(value).decode()


def read_protobuf(body: bytes, now_ms: int) -> Drafts:
    """`application/x-protobuf`: a PushRequest in one block of snappy."""
    try:
        streams = _PUSH.FromString(unsnapped(body)).streams
    except DecodeError:
        raise InvalidJSON("the body is not a valid push request") from None
    drafts.require_few(sum(len(stream.entries) for stream in streams), "lines")
    read = ((labels_of(text_of(stream.labels)), map(_protobuf_line, stream.entries)) for stream in streams)
    return _drafts(read, now_ms)


def unsnapped(body: bytes) -> bytes:
    """Undo snappy's block format. The length that a block claims is looked at before there is room made for it."""
    try:
        if cramjam.snappy.decompress_raw_len(body) > INFLATED_BYTES_MAX:
            raise TooLarge(f"the body inflates to more than {INFLATED_BYTES_MAX} bytes")
        return bytes(cramjam.snappy.decompress_raw(body))
    except (cramjam.DecompressionError, ValueError, OverflowError):
        raise InvalidJSON("the body is not valid snappy") from None


def _protobuf_line(entry: Any) -> _Line:
    time = entry.timestamp.seconds * NS_PER_S + entry.timestamp.nanos
    metadata = {text_of(label.name): text_of(label.value) for label in entry.metadata}
    return _Line(time, text_of(entry.line), metadata)


def labels_of(text: str) -> dict[str, str]:
    """`{a="b", c="d\\"e"}`, as Prometheus writes it. Raises InvalidJSON."""
    plain = text.strip()
    if not plain:
        return {}
    if plain[0] != "{" or plain[-1] != "}":
        raise InvalidJSON('labels must be written as {name="value", …}')
    inner, at = plain[1:-1].strip(), 0
    labels: dict[str, str] = {}
    while at < len(inner):
        found = _LABEL(inner, at)
        if found is None:
            raise InvalidJSON('labels must be written as {name="value", …}')
        name, value = found.groups()
        labels[_unquoted(name)] = _unquoted(value)
        at = found.end()
    return labels


def _unquoted(text: str) -> str:
    if text[0] == "`":
        return text[1:-1]
    if text[0] != '"':
        return text
    return mend_text(_ESCAPE.sub(_unescape, text[1:-1])) if "\\" in text else text[1:-1]


def _unescape(escape: re.Match[str]) -> str:
    byte, octal, short, long, sign = escape.groups()
    if sign is not None:
        return _ESCAPED.get(sign, sign)
    code = int(octal, 8) if octal else int(byte or short or long, 16)
    return chr(code) if code < 0x110000 else "\ufffd"


def _drafts(streams: Iterable[tuple[dict[str, Any], Iterable[_Line]]], now_ms: int) -> Drafts:
    entries: list[Entry] = []
    size = 0
    for labels, lines in streams:
        raw = _encode(labels)
        fits = len(raw) <= ATTRS_BYTES_MAX
        shared = _Shared(
            Own("", drafts.service_of(_first((labels,), SERVICE_LABELS))),
            labels,
            (msgspec.Raw(raw) if fits else None) if labels else None,
        )
        for line in lines:
            entry = _entry(shared, line, now_ms, truncated=not fits)
            size += len(entry.message) + len(entry.attrs or b"")
            drafts.require_small(size)
            entries.append(entry)
    return Drafts(entries)


def _first(places: Iterable[dict[str, Any]], names: Iterable[str]) -> str | None:
    """The first of these names that is there, as text."""
    for place in places:
        if place:
            for name in names:
                value = place.get(name)
                if value is not None and value != "":
                    return value if isinstance(value, str) else _json(value)
    return None


def _entry(shared: _Shared, line: _Line, now_ms: int, *, truncated: bool) -> Entry:
    places = (line.metadata, shared.labels)
    attrs = dict(line.metadata)
    ts_ms = drafts.in_range(line.time, now_ms) if isinstance(line.time, int) else None
    if ts_ms is None and line.time:
        keep(attrs, "time_unix_nano", str(line.time))
    if shared.raw is not None:
        keep(attrs, "labels", shared.raw)
    if truncated:
        keep(attrs, "truncated", True)
    message = drafts.cut(line.text, attrs)
    level = _first(places, LEVEL_NAMES)
    return Entry(
        0, now_ms if ts_ms is None else ts_ms, ts_ms is not None,
        number_of(level), (level or "info")[:LEVEL_CHARS_MAX], message, _attrs(attrs, shared.raw),
        drafts.id_of(_first(places, TRACE_NAMES), "trace_id"),
        drafts.id_of(_first(places, SPAN_NAMES), "span_id"),
        host=drafts.name_of(_first(places, HOST_NAMES), "host"),
        environment=drafts.name_of(_first(places, ENVIRONMENT_NAMES), "environment"),
        own=shared.own,
    )  # fmt: skip


def _attrs(attrs: dict[str, Any], labels: msgspec.Raw | None) -> bytes | None:
    """attrs as JSON; of too many, the labels if they fit."""
    if not attrs:
        return None
    encoded = _encode(attrs)
    if len(encoded) <= ATTRS_BYTES_MAX:
        return encoded
    if labels is not None:
        encoded = _encode({"labels": labels, "truncated": True})
        if len(encoded) <= ATTRS_BYTES_MAX:
            return encoded
    return _encode({"truncated": True})
