"""What people ask for when they read logs (log-service.md §4). Pure: a query string or JSON in, a filter out.

A filter says nothing of the tenant: that is never the asker's choice. Equal questions make equal filters, so
`digest` can bind a cursor to its question.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from tracehub.protocol.errors import InvalidField
from tracehub.protocol.severity import HIGHEST, matching, range_of
from tracehub.protocol.shapes import Schema, Time, shaped
from tracehub.protocol.times import parse_time

VALUES_MAX: Final = 50
METADATA_MAX: Final = 10
SEARCH_CHARS_MAX: Final = 256
PAGE_SIZE: Final = 100
PAGE_SIZE_MAX: Final = 1_000
DEPTH_MAX: Final = 100_000
_DIGEST_BYTES = 8

# The word in a question, and the column it is about.
EXACT: Final = {
    "service_name": "service",
    "service": "service",
    **{
        name: name
        for name in (
            "trace_id", "span_id", "user_id", "request_id", "environment", "host", "source", "category",
            "app_id", "door", "batch_id",
        )
    },
}  # fmt: skip
# What the logstream door shows for a column that is absent: the first of these that is there, else a word.
SHOWN: Final = {
    "shown_app_id": (("app_id", "environment"), "default"),
    "shown_category": (("category",), "general"),
}
_METADATA: Final = "metadata."

# Any of the words; where only one can be, the last. Empty ones are none, and those of a column are counted together.
_Words = str | Annotated[list[str], Meta(extra_json_schema={"maxItems": VALUES_MAX})] | None
_Part = Annotated[str, Meta(max_length=SEARCH_CHARS_MAX)]
_Search = _Part | list[_Part] | None
_Times = Time | list[Time] | None
_Object = Annotated[dict[str, Any], Meta(max_length=METADATA_MAX)] | None
_LISTED: Final = (*EXACT, "level")
TIMES: Final = ("start", "end", "start_time", "end_time")
_PARTS: Final = ("user_agent",)  # columns that contain the text
_SINGLE: Final = ("min_level", "search", *_PARTS, *TIMES)
_CONDITIONS: Final[dict[str, Any]] = {
    **dict.fromkeys(_LISTED, _Words),
    "min_level": _Words,
    "search": _Search,
    "metadata": _Object,
}
# Written into addresses as well, so what cannot be read is the default.
_PAGES: Final[dict[str, tuple[Schema, Any]]] = {
    "page": ({"type": "integer", "minimum": 1}, 1),
    "page_size": ({"type": "integer", "minimum": 1, "maximum": PAGE_SIZE_MAX}, PAGE_SIZE),
    "order": ({"enum": ["asc", "desc"]}, "desc"),
    "count": ({"type": "boolean"}, False),
}
PAGING: Final = (*_PAGES, "cursor")


def _made(
    name: str, fields: Iterable[tuple[str, Any, Any]], *bases: type[msgspec.Struct]
) -> type[msgspec.Struct]:
    return msgspec.defstruct(name, fields, bases=bases, forbid_unknown_fields=True)


def query_body(name: str, **more: Any) -> type[msgspec.Struct]:
    """The type of a QueryBody that may have these fields, too."""
    return _made(name, [(field, kind, None) for field, kind in more.items()], QueryBody)


AlertFilter: Final = _made("AlertFilter", [(name, kind, None) for name, kind in _CONDITIONS.items()])
QueryBody: Final = _made(
    "QueryBody",
    [
        *((name, kind, None) for name, kind in _CONDITIONS.items()),
        *((name, _Search, None) for name in _PARTS),
        *((name, _Times, None) for name in TIMES),
        *(
            (name, Annotated[Any, Meta(extra_json_schema=told)], usual)
            for name, (told, usual) in _PAGES.items()
        ),
        ("cursor", str | None, None),
    ],
)


@dataclass(frozen=True, slots=True)
class LogFilter:
    """ANDed conditions; an empty one is absent.

    exact: column to wanted values (also of SHOWN). parts: a column contains the text. severities: ranges of numbers,
    any of them (None: all; empty: nothing). metadata: key (literal, or a dotted path) to JSON texts, any of them.
    """

    exact: tuple[tuple[str, tuple[str, ...]], ...] = ()
    severities: tuple[tuple[int, int], ...] | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    search: str = ""
    metadata: tuple[tuple[str, tuple[str, ...]], ...] = ()
    parts: tuple[tuple[str, str], ...] = ()

    def digest(self) -> bytes:
        """Tells questions apart."""
        return hashlib.sha256(repr(self).encode("utf-8", "surrogatepass")).digest()[:_DIGEST_BYTES]

    def of_service(self, service: str | None) -> LogFilter:
        """The same as far as it is about this service (None: any)."""
        if service is None:
            return self
        asked = dict(self.exact).get("service", (service,))
        others = tuple(pair for pair in self.exact if pair[0] != "service")
        return replace(self, exact=(("service", tuple(n for n in asked if n == service)), *others))


@dataclass(frozen=True, slots=True)
class Position:
    """A row's place in the order by (ts, id)."""

    ts_ms: int
    id: bytes


@dataclass(frozen=True, slots=True)
class Paging:
    """Which part of the answer. `cursor`: None for numbered pages, "" for the first page by cursor."""

    page: int = 1
    page_size: int = PAGE_SIZE
    ascending: bool = False
    cursor: str | None = None
    count: bool = True


def from_query(items: Iterable[tuple[str, str]]) -> tuple[LogFilter, Paging]:
    """Of a query string; unknown words are ignored, and what was given last counts where only one can.

    Raises InvalidField.
    """
    document: dict[str, Any] = {}
    metadata: dict[str, list[str]] = {}
    for raw in items:
        name, text = (part.replace("\0", "\ufffd") for part in raw)
        if name in PAGING or (text and name in _SINGLE):
            document.pop(name, None)  # the last one also of its synonyms
            document[name] = text
        elif text and name in _LISTED:
            document.setdefault(name, []).append(text)
        elif text and name.startswith(_METADATA):
            metadata.setdefault(name.removeprefix(_METADATA), []).extend(_alternatives(text))
    shaped(document, QueryBody)
    return _filter(document, metadata), _paging(document)


def from_json(document: Any, shape: type[msgspec.Struct] = QueryBody) -> tuple[LogFilter, Paging]:
    """Of a JSON object of this type; an unknown key is an error. Raises InvalidField."""
    if isinstance(document, dict) and document.get("metadata") in ("", []):
        document = {**document, "metadata": None}
    shaped(document, shape)
    metadata = {key: [json.dumps(wanted)] for key, wanted in (document.get("metadata") or {}).items()}
    return _filter(document, metadata), _paging(document)


def _alternatives(text: str) -> list[str]:
    """A value of a query string has no type: `5` is the number and the text."""
    found = [json.dumps(text)]
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return found
    if value is None or isinstance(value, (bool, int, float)):
        found.append(text)
    return found


def _filter(asked: Mapping[str, Any], metadata: Mapping[str, list[str]]) -> LogFilter:
    if len(metadata) > METADATA_MAX:
        raise InvalidField(f"must have at most {METADATA_MAX} keys", field="metadata")
    for key, texts in metadata.items():
        if len(texts) > VALUES_MAX:
            raise InvalidField(f"must have at most {VALUES_MAX} values", field=_METADATA + key)
    exact: dict[str, list[str]] = {}
    for name in asked:
        if name in _LISTED and (given := _values(asked, name)):
            values = exact.setdefault(EXACT.get(name, name), [])
            values += given
            if len(values) > VALUES_MAX:
                raise InvalidField(f"must have at most {VALUES_MAX} values", field=name)
    levels = exact.pop("level", [])
    return LogFilter(
        tuple(sorted((column, tuple(sorted(set(values)))) for column, values in exact.items())),
        _severities(levels, _last(asked, "min_level")),
        _bound(asked, "start", "start_time"),
        _bound(asked, "end", "end_time"),
        _last(asked, "search"),
        tuple(sorted((key, tuple(sorted(set(texts)))) for key, texts in metadata.items())),
        tuple((name, text) for name in _PARTS if (text := _last(asked, name))),
    )


def _values(asked: Mapping[str, Any], name: str) -> list[str]:
    given = asked.get(name) or []
    return [text for text in (given if isinstance(given, list) else [given]) if text]


def _last(asked: Mapping[str, Any], name: str) -> str:
    return (_values(asked, name) or [""])[-1]


def _bound(asked: Mapping[str, Any], *names: str) -> int | None:
    """The time of the last of these words that is there, in Unix milliseconds."""
    found = None
    for name in asked:
        if name in names and (text := _last(asked, name)):
            try:
                found = parse_time(text)
            except ValueError:
                raise InvalidField("must be an RFC 3339 time", field=name) from None
    return found


def _severities(levels: Sequence[str], least: str) -> tuple[tuple[int, int], ...] | None:
    """The ranges of the levels, cut at the least one. An unknown word matches nothing."""
    if not levels and not least:
        return None
    low = 1
    if least:
        bounds = range_of(least)
        low = bounds[0] if bounds else HIGHEST + 1
    wanted = matching(levels) if levels else [(1, HIGHEST)]
    return tuple((max(low, first), last) for first, last in wanted if last >= low)


def _paging(given: Mapping[str, Any]) -> Paging:
    page = max(1, _whole(given.get("page"), 1))
    size = _whole(given.get("page_size"), 0)
    size = min(PAGE_SIZE_MAX, max(1, size)) if size else PAGE_SIZE
    cursor = given.get("cursor")
    if cursor is None and page * size > DEPTH_MAX:
        raise InvalidField(f"page times page_size is above {DEPTH_MAX}: go on by cursor", field="page")
    wants_count = str(given.get("count", "")).lower() == "true"
    return Paging(page, size, given.get("order") == "asc", cursor, cursor is None or wants_count)


def _whole(value: Any, default: int) -> int:
    """A number that people write into an address; what cannot be read is the default."""
    text = str(value)[:18]
    try:
        return int(text) if text.isascii() else default
    except ValueError:
        return default


def matches(wanted: LogFilter, shown: Mapping[str, Any]) -> bool:
    """Whether a LogEntry (log-service.md §3) is one of those: what storage does in SQL, for entries that pass by."""
    return (
        all(_shown(shown, column) in values for column, values in wanted.exact)
        and all(text.lower() in (_shown(shown, column) or "").lower() for column, text in wanted.parts)
        and (
            wanted.severities is None
            or any(first <= shown["severity"] <= last for first, last in wanted.severities)
        )
        and wanted.search.lower() in shown["message"].lower()
        and (wanted.start_ms is None or parse_time(shown["timestamp"]) >= wanted.start_ms)
        and (wanted.end_ms is None or parse_time(shown["timestamp"]) <= wanted.end_ms)
        and all(_has(shown.get("metadata"), key, texts) for key, texts in wanted.metadata)
    )


def _shown(shown: Mapping[str, Any], column: str) -> Any:
    """A column of storage in a LogEntry."""
    if column in SHOWN:
        names, otherwise = SHOWN[column]
        return next((shown[name] for name in names if name in shown), otherwise)
    return shown.get("service_name" if column == "service" else column)


def _has(metadata: Any, key: str, texts: Sequence[str]) -> bool:
    if not isinstance(metadata, dict):
        metadata = {"_value": metadata}
    found = [metadata[key]] if key in metadata else []
    value: Any = metadata
    for step in key.split("."):
        value = value.get(step, _ABSENT) if isinstance(value, dict) else _ABSENT
    if value is not _ABSENT:
        found.append(value)
    asked = [json.loads(text) for text in texts]
    return any(_equal(value, wish) for value in found for wish in asked)


_ABSENT: Final = object()


def _equal(one: Any, other: Any) -> bool:
    """As JSON: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def write_cursor(position: Position, asked: LogFilter, *, ascending: bool) -> str:
    """Where to go on, for this question only."""
    seal = _seal(position, asked, ascending=ascending)
    packed = msgspec.msgpack.encode((position.ts_ms, position.id, asked.digest(), ascending, seal))
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read_cursor(cursor: str, asked: LogFilter, *, ascending: bool) -> Position:
    """Raises InvalidField for a damaged one, and for one of another question."""
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        ts_ms, entry_id, digest, order, _ = msgspec.msgpack.decode(
            packed, type=tuple[int, bytes, bytes, bool, bytes]
        )
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise InvalidField("is damaged", field="cursor") from None
    if digest != asked.digest() or order is not ascending:
        raise InvalidField("belongs to another question", field="cursor")
    position = Position(ts_ms, entry_id)
    if cursor != write_cursor(position, asked, ascending=ascending):
        raise InvalidField("is damaged", field="cursor")
    return position


def _seal(position: Position, asked: LogFilter, *, ascending: bool) -> bytes:
    """Tells a damaged cursor; who wants to make one may, for it opens nothing."""
    return hashlib.sha256(repr((position, asked, ascending)).encode("utf-8", "surrogatepass")).digest()[
        :_DIGEST_BYTES
    ]
