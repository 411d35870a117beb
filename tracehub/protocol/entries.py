"""The body of `POST /ingest` as values: decode, check, normalise (ingest.md §2).

Guarantee: what `parse_batch` returns can be stored as it is: every string is valid UTF-8 without U+0000,
every number fits a double, every time lies in the accepted range. Nothing is returned of a refused body.
How: a typed decoder reads the common body in one pass; whatever it refuses is read again, entry by entry, by
`lenient.py`, which moves unknown keys into attrs, mends text and names the first bad field.
Limits: limits.py. Not here: decompression and the size of the raw body (the door caps it while it streams).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import msgspec

from tracehub.protocol import ranges as r
from tracehub.protocol.errors import InvalidField, InvalidJSON, TooLarge
from tracehub.protocol.limits import (
    ATTRS_BYTES_MAX,
    BATCH_ENTRIES_MAX,
    BATCH_ID_CHARS_MAX,
    EPOCH_MAX,
    JSON_DEPTH_MAX,
    LEVEL_CHARS_MAX,
    LOST_RANGES_MAX,
    MESSAGE_BYTES_MAX,
    REASON_CHARS_MAX,
    SEQ_MAX,
    TS_FUTURE_MS,
    TS_MIN_MS,
)
from tracehub.protocol.messages import Entry
from tracehub.protocol.ranges import Ranges
from tracehub.protocol.severity import number_of
from tracehub.protocol.shapes import entry_text
from tracehub.protocol.times import unix_ms

Lost = tuple[tuple[int, int, str], ...]

_HUGE_NUMBER = re.compile(rb"\d{300}")
_ATTRS_DEPTH_MAX = JSON_DEPTH_MAX - 3  # the document, the batch and the entry are three levels


class WireEntry(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An entry as producers write it; the common case only, see lenient.py."""

    seq: Annotated[int, msgspec.Meta(ge=1, le=SEQ_MAX)]
    level: str | None = None
    message: Annotated[str, msgspec.Meta(max_length=MESSAGE_BYTES_MAX)] | None = None
    ts: int | datetime | None = None
    request_id: entry_text("request_id") = None  # type: ignore[valid-type]
    trace_id: entry_text("trace_id") = None  # type: ignore[valid-type]
    span_id: entry_text("span_id") = None  # type: ignore[valid-type]
    user_id: entry_text("user_id") = None  # type: ignore[valid-type]
    category: entry_text("category") = None  # type: ignore[valid-type]
    source: entry_text("source") = None  # type: ignore[valid-type]
    host: entry_text("host") = None  # type: ignore[valid-type]
    environment: entry_text("environment") = None  # type: ignore[valid-type]
    user_agent: entry_text("user_agent") = None  # type: ignore[valid-type]
    release: entry_text("release") = None  # type: ignore[valid-type]
    attrs: dict[str, Any] | None = None


class WireBatch(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /ingest. Keys beside these are ignored, once lenient.py has looked into their depth
    and numbers: a decoder that skips a value does not check it."""

    service: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:/-]{1,100}\Z")]
    batch: Annotated[list[WireEntry], msgspec.Meta(max_length=BATCH_ENTRIES_MAX)] | None = None
    batchId: Annotated[str, msgspec.Meta(max_length=BATCH_ID_CHARS_MAX)] | None = None  # noqa: N815
    epoch: Annotated[int, msgspec.Meta(ge=0, le=EPOCH_MAX)] | None = None
    start: Annotated[int, msgspec.Meta(ge=1, le=SEQ_MAX)] | None = None
    lost: Annotated[list[tuple[int, int, str]], msgspec.Meta(max_length=LOST_RANGES_MAX)] | None = None


_decoder = msgspec.json.Decoder(WireBatch)
_encode_json = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Batch:
    """A checked body. `ranges` are the numbers of `entries`; `batch_id` is None when the client gave none."""

    service: str
    epoch: int
    batch_id: str | None
    start: int | None
    lost: Lost
    entries: list[Entry]
    ranges: Ranges


def parse_batch(body: bytes, now_ms: int) -> Batch:
    """Read a body. `now_ms` (Unix milliseconds) becomes the time of entries that carry none.

    Raises InvalidJSON, InvalidField (names the first bad value) or TooLarge.
    """
    if b"\\u0000" not in body:
        try:
            wire = _decoder.decode(body)
            return _from_wire(wire, now_ms)
        except (msgspec.DecodeError, UnicodeDecodeError, _Unusual):
            pass
        except RecursionError:
            raise InvalidJSON(f"JSON may be nested {JSON_DEPTH_MAX} levels deep") from None
    from tracehub.protocol.lenient import parse_leniently

    return parse_leniently(body, now_ms)


class _Unusual(Exception):
    """The body needs the lenient reader."""


def _from_wire(wire: WireBatch, now_ms: int) -> Batch:
    ts_max = now_ms + TS_FUTURE_MS
    entries: list[Entry] = []
    add = entries.append
    for e in wire.batch or ():
        ts = e.ts
        if ts is None:
            ts_ms = now_ms
        else:
            ts_ms = ts if type(ts) is int else unix_ms(ts)  # type: ignore[arg-type]
            if not TS_MIN_MS <= ts_ms <= ts_max:
                raise _Unusual
        level = e.level or "info"
        message = e.message or ""
        if len(message) > MESSAGE_BYTES_MAX // 4 and len(message.encode()) > MESSAGE_BYTES_MAX:
            raise _Unusual
        add(
            Entry(
                e.seq,
                ts_ms,
                ts is not None,
                number_of(level),
                level if len(level) <= LEVEL_CHARS_MAX else level[:LEVEL_CHARS_MAX],
                message,
                None if e.attrs is None else _attrs_json(e.attrs),
                e.trace_id or None,
                e.span_id or None,
                e.request_id or None,
                e.user_id or None,
                e.category or None,
                e.source or None,
                e.host or None,
                e.environment or None,
                e.user_agent or None,
                e.release or None,
            )
        )
    return assemble(wire.service, entries, wire)


def _attrs_json(attrs: dict[str, Any]) -> bytes:
    text = _encode_json(attrs)
    if len(text) > 300 and (len(text) > ATTRS_BYTES_MAX or _HUGE_NUMBER.search(text)):
        raise _Unusual
    if text.count(b"{") + text.count(b"[") > _ATTRS_DEPTH_MAX:
        raise _Unusual
    return text


def assemble(service: str, entries: list[Entry], head: WireBatch) -> Batch:
    """Check what concerns the body as a whole; both readers end here."""
    if len(entries) > BATCH_ENTRIES_MAX:
        raise TooLarge(f"a batch holds at most {BATCH_ENTRIES_MAX} entries", field="batch")
    if not entries and head.lost is None:
        raise InvalidField("batch must hold at least one entry", field="batch")
    ranges = r.of_numbers([e.seq for e in entries])
    check_start(head.start, ranges)
    lost = check_lost(head.lost)
    return Batch(service, head.epoch or 0, head.batchId or None, head.start, lost, entries, ranges)


def check_start(start: int | None, ranges: Ranges) -> None:
    """A service begins at no number that lies above one of the batch."""
    if start is not None and ranges and start > ranges[0][0]:
        raise InvalidField("start must not be above the lowest seq of the batch", field="start")


def check_lost(lost: list[tuple[int, int, str]] | None) -> Lost:
    """The `lost` list: at most 1,000 of [from, to, reason] with 1 <= from <= to."""
    if not lost:
        return ()
    if len(lost) > LOST_RANGES_MAX:
        raise InvalidField(f"lost holds at most {LOST_RANGES_MAX} ranges", field="lost")
    for index, (first, last, _) in enumerate(lost):
        for place, number in enumerate((first, last)):
            if not 1 <= number <= SEQ_MAX:
                raise InvalidField(f"must be an integer from 1 to {SEQ_MAX}", field=f"lost[{index}][{place}]")
        if first > last:
            raise InvalidField("must be [from, to, reason] with 1 <= from <= to", field=f"lost[{index}]")
    return tuple(
        (first, last, reason.replace("\0", "\ufffd")[:REASON_CHARS_MAX]) for first, last, reason in lost
    )
