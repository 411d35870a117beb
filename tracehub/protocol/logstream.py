"""The logstream dialect (logstream.md §3 to §5), pure: bodies to entries, entries as shown, queries to filters."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from tracehub.protocol import fields
from tracehub.protocol.errors import InvalidField, InvalidJSON, TooLarge
from tracehub.protocol.filters import DEPTH_MAX, SEARCH_CHARS_MAX, LogFilter
from tracehub.protocol.limits import (
    BATCH_ENTRIES_MAX,
    BATCH_ID_CHARS_MAX,
    LEVEL_CHARS_MAX,
    MESSAGE_BYTES_MAX,
    SERVICE_CHARS_MAX,
    TEXT_CHARS_MAX,
)
from tracehub.protocol.messages import Entry, Own
from tracehub.protocol.severity import HIGHEST, LOGSTREAM, logstream_word_of, matching, number_of, range_of
from tracehub.protocol.shapes import Shown, Time, entry_text, shaped
from tracehub.protocol.times import parse_iso, parse_time

DOOR: Final = "logstream"
APP_CHARS_MAX: Final = SERVICE_CHARS_MAX
LIMIT, LIMIT_MAX = 100, 1_000
_App = Annotated[str, Meta(max_length=APP_CHARS_MAX)] | None
_BatchId = Annotated[str, Meta(max_length=BATCH_ID_CHARS_MAX)] | None


class LogstreamEntryBody(msgspec.Struct, gc=False):
    """An entry as it is sent; null and "" are absent, and any other key goes into context. A level, a context and a
    time that cannot be read are none; what is too long of category and user_agent is cut."""

    message: Annotated[str, Meta(max_length=MESSAGE_BYTES_MAX)] | None = None  # required, but may be ""
    app_key: _App = None
    app_id: _App = None
    batch_id: _BatchId = None
    trace_id: entry_text("trace_id") = None  # type: ignore[valid-type]
    user_agent: str | None = None
    category: str | None = None
    level: Any = None
    context: Any = None
    timestamp: Time | None = None
    id: Shown = None
    created_at: Shown = None


class LogstreamBody(LogstreamEntryBody):
    """The body of POST /api/logs: an entry, or in `logs` many, with what they have in common beside them.

    This type only describes. Its entries are looked at one by one, so that one that is bad leaves the others.
    """

    logs: Annotated[list[LogstreamEntryBody], Meta(max_length=BATCH_ENTRIES_MAX)] | None = None


_KNOWN: Final = frozenset(LogstreamEntryBody.__struct_fields__)


class EntryError(Exception):
    """Why an entry is left out, in the door's words."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a request says beside its body: headers, and the service that the key decides."""

    app_key: str | None = None  # X-App-Key
    app_id: str | None = None  # X-App-Id
    user_agent: str | None = None
    writes_as: str | None = None


@dataclass(slots=True)
class Parsed:
    """The entries that are stored, without numbers, and one error for each of the others."""

    entries: list[Entry] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def parse(document: Any, request: Request, now_ms: int, base: bytes) -> Parsed:
    """Read a body. `base`: the id of the first entry, from which ids are made that nobody gave.

    Raises InvalidJSON (a scalar), InvalidField (app_key, app_id), TooLarge.
    """
    if not isinstance(document, (dict, list)):
        raise InvalidJSON
    top = document if isinstance(document, dict) else {}
    head = _Head(
        request.writes_as or _app(top.get("app_key"), request.app_key),
        _app(top.get("app_id"), request.app_id),
        top,
        request,
    )
    logs = top.get("logs")
    is_batch = isinstance(logs, list)
    items: Sequence[Any] = logs if isinstance(logs, list) else [top]
    if len(items) > BATCH_ENTRIES_MAX:
        raise TooLarge(f"a batch holds at most {BATCH_ENTRIES_MAX} entries")
    found = Parsed()
    for index, item in enumerate(items):
        try:
            found.entries.append(_entry(item, head, now_ms, _made_id(base, index), is_batch=is_batch))
        except EntryError as error:
            found.errors.append(f"Entry #{index}: {error}")
    return found


@dataclass(frozen=True, slots=True)
class _Head:
    app_key: str
    app_id: str
    top: Mapping[str, Any]
    request: Request


def _app(given: Any, header: str | None) -> str:
    value = header if given is None or given == "" else given
    if value is None or value == "":
        raise InvalidField("app_key and app_id are required")
    if not isinstance(value, str) or len(value) > APP_CHARS_MAX:
        raise InvalidField("app_key and app_id must be strings of 1 to 100 characters")
    return value


def _made_id(base: bytes, index: int) -> str:
    """A UUIDv4 that is the same whenever the same request is read."""
    return str(uuid.UUID(bytes=hashlib.sha256(base + index.to_bytes(4, "big")).digest()[:16], version=4))


def _entry(item: Any, head: _Head, now_ms: int, trace_id: str, *, is_batch: bool) -> Entry:
    if not isinstance(item, dict):
        raise EntryError("must be an object")
    body = _body(item)
    message = body.message
    if message is None:
        raise EntryError("message is required")
    if len(message) * 4 > MESSAGE_BYTES_MAX and len(message.encode()) > MESSAGE_BYTES_MAX:
        raise EntryError("message is too long")
    ts_ms, ts_given = _time(body.timestamp, now_ms)
    batch_id = body.batch_id or (_text(head.top, "batch_id", BATCH_ID_CHARS_MAX) if is_batch else None)
    user_agent = body.user_agent or head.request.user_agent or _text(head.top, "user_agent", None)
    category = body.category or "general"
    level = body.level if isinstance(body.level, str) and body.level else "info"
    attrs = _context(item)
    return Entry(
        0, ts_ms, ts_given, number_of(level), level[:LEVEL_CHARS_MAX], message, attrs,
        trace_id=body.trace_id or trace_id,
        category=category[: TEXT_CHARS_MAX["category"]],
        user_agent=user_agent[: TEXT_CHARS_MAX["user_agent"]] if user_agent else None,
        app_id=body.app_id or head.app_id,
        own=Own("", head.request.writes_as or body.app_key or head.app_key, batch_id),
    )  # fmt: skip


def _body(item: dict[str, Any]) -> LogstreamEntryBody:
    try:
        return shaped(item, LogstreamEntryBody)
    except InvalidField as bad:
        is_long = isinstance(item.get(bad.field or ""), str)
        raise EntryError(f"{bad.field} {'is too long' if is_long else 'must be a string'}") from None


def _text(item: Mapping[str, Any], name: str, most: int | None) -> str | None:
    value = item.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise EntryError(f"{name} must be a string")
    if most is not None and len(value) > most:
        raise EntryError(f"{name} is too long")
    return value


def _time(value: str | None, now_ms: int) -> tuple[int, bool]:
    """The time, and whether it was given; what cannot be one is now."""
    if value is None:
        return now_ms, False
    try:
        ms = parse_iso(value)
    except ValueError:
        return now_ms, False
    return (ms, True) if fields.in_time(ms, now_ms) else (now_ms, False)


def _context(item: Mapping[str, Any]) -> bytes | None:
    context = item.get("context")
    if isinstance(context, str):
        try:
            context = fields.read_json(context.encode("utf-8", "surrogatepass"))
        except InvalidJSON:
            context = None
    if not isinstance(context, (dict, list)):
        context = None
    unknown = {key: value for key, value in item.items() if key not in _KNOWN}
    context = fields.add_unknown(context, unknown)
    if context is None:
        return None
    try:
        return fields.encode_attrs(context, "context")
    except InvalidField:
        raise EntryError("context is too large") from None


def shown(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A LogEntry of the log service as this door shows it: twelve keys, always all, in this order."""
    context = entry.get("metadata")
    if context == {} and entry["door"] != DOOR:
        context = None
    return {
        "id": fields.ulid(uuid.UUID(entry["id"]).bytes),
        "trace_id": entry.get("trace_id"),
        "batch_id": entry.get("batch_id"),
        "app_key": entry["service_name"],
        "app_id": entry.get("app_id") or entry.get("environment") or "default",
        "user_agent": entry.get("user_agent"),
        "level": logstream_word_of(entry["severity"]),
        "category": entry.get("category") or "general",
        "message": entry["message"],
        "context": context,
        "timestamp": entry["timestamp"],
        "created_at": entry["created_at"],
    }


@dataclass(frozen=True, slots=True)
class Paging:
    """Which part of the answer. `cursor`: None without one, "" for the first page."""

    limit: int
    offset: int
    cursor: str | None


_EXACT: Final = {
    "app_key": "service", "app_id": "shown_app_id", "trace_id": "trace_id", "batch_id": "batch_id", "door": "door",
}  # fmt: skip
_PARTS: Final = {"user_agent": "user_agent", "category": "shown_category"}


def read_filter(items: Sequence[tuple[str, str]]) -> LogFilter:
    """Of a query string, or of the keys of a `filter` frame. Raises InvalidField in the door's words."""
    given: dict[str, list[str]] = {}
    for name, value in items:
        if value:
            given.setdefault(name, []).append(value.replace("\0", "\ufffd"))
    exact = tuple((column, tuple(given[name][-1:])) for name, column in _EXACT.items() if name in given)
    parts = []
    for name, column in _PARTS.items():
        if name in given:
            parts.append((column, _search(given[name][-1])))
    levels = [word for value in given.get("level", ()) for word in value.split(",") if word.strip()]
    return LogFilter(
        exact=exact,
        severities=_severities(levels, given.get("min_level", [""])[-1]),
        start_ms=_bound(given, "date_from"),
        end_ms=_bound(given, "date_to"),
        search=_search(given.get("search", [""])[-1]),
        parts=tuple(parts),
    )


def _search(text: str) -> str:
    if len(text) > SEARCH_CHARS_MAX:
        raise InvalidField("search is too long")
    return text


def _severities(levels: Sequence[str], least: str) -> tuple[tuple[int, int], ...] | None:
    if not levels and not least:
        return None
    low = 1
    if least:
        bounds = range_of(least, LOGSTREAM)
        low = bounds[0] if bounds else HIGHEST + 1
    wanted = matching(levels, LOGSTREAM) if levels else [(1, HIGHEST)]
    return tuple((max(low, first), last) for first, last in wanted if last >= low)


def _bound(given: Mapping[str, list[str]], name: str) -> int | None:
    """A time, or a bare date: its first or its last millisecond in UTC."""
    if name not in given:
        return None
    text = given[name][-1].strip()
    try:
        if len(text) in {len("2025-01-15"), len("20250115")}:
            day = date.fromisoformat(text)
            if name == "date_from":
                return parse_time(f"{day}T00:00:00Z")
            return parse_time(f"{day + timedelta(days=1)}T00:00:00Z") - 1
        return parse_iso(text)
    except (ValueError, OverflowError):
        raise InvalidField(f"Invalid {name}") from None


def read_paging(given: Mapping[str, str]) -> Paging:
    """limit, offset, cursor; what cannot be read is the least."""
    limit, offset = given.get("limit", ""), given.get("offset", "")
    cursor = given.get("cursor")
    skipped = _whole(offset, 0) if offset else 0
    if cursor is None and skipped > DEPTH_MAX:
        raise InvalidField(f"offset must not exceed {DEPTH_MAX}; use cursor")
    most = min(LIMIT_MAX, max(1, _whole(limit, 1))) if limit else LIMIT
    return Paging(most, max(0, skipped), cursor)


def _whole(text: str, otherwise: int) -> int:
    try:
        return int(text[:18])
    except ValueError:
        return otherwise
