"""The second reader of a body: slower, mends what may be mended, names what may not.

It reads JSON with the standard library, which keeps lone surrogates and says where a number is too big, then
checks field by field in the order of the contract's table (ingest.md §2), so `field` is the first bad value.
Also reads single buffer members for replay (`parse_member`). Raises InvalidJSON, InvalidField, TooLarge.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import msgspec

from tracehub.protocol import ranges as r
from tracehub.protocol.entries import Batch, WireBatch, assemble, check_start
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
    SEQ_MAX,
    SERVICE_CHARS_MAX,
    TEXT_CHARS_MAX,
    TS_FUTURE_MS,
    TS_MIN_MS,
)
from tracehub.protocol.messages import Entry
from tracehub.protocol.severity import number_of
from tracehub.protocol.times import parse_time

_SURROGATE = re.compile("[\ud800-\udfff]")
_SERVICE = re.compile(rf"[A-Za-z0-9._:/-]{{1,{SERVICE_CHARS_MAX}}}")
_ENTRY_KEYS = frozenset(("seq", "level", "message", "ts", "attrs", *TEXT_CHARS_MAX))


def parse_leniently(body: bytes, now_ms: int) -> Batch:
    """Read a body that the typed reader refused."""
    document = load_json(body)
    if not isinstance(document, dict):
        raise InvalidJSON("the body must be a JSON object")
    service = document.get("service")
    if not isinstance(service, str) or not _SERVICE.fullmatch(service):
        raise InvalidField(
            f"service must be 1 to {SERVICE_CHARS_MAX} characters of A-Z a-z 0-9 . _ : / -", field="service"
        )
    batch = document.get("batch")
    if batch is not None and not isinstance(batch, list):
        raise InvalidField("batch must be an array", field="batch")
    if batch and len(batch) > BATCH_ENTRIES_MAX:
        raise TooLarge(f"a batch holds at most {BATCH_ENTRIES_MAX} entries", field="batch")
    entries = [read_entry(item, f"batch[{index}]", now_ms) for index, item in enumerate(batch or ())]
    head = WireBatch(
        service=service,
        batchId=_batch_id(document.get("batchId")),
        epoch=_integer(document.get("epoch"), "epoch", 0, EPOCH_MAX),
        start=_integer(document.get("start"), "start", 1, SEQ_MAX),
    )
    check_start(head.start, r.of_numbers([e.seq for e in entries]))
    head.lost = _lost(document.get("lost"))
    return assemble(service, entries, head)


def parse_member(member: bytes, now_ms: int) -> tuple[int, Entry]:
    """One member of a producer's buffer: (epoch, entry). It passes the same checks as at the door."""
    document = load_json(member)
    if not isinstance(document, dict):
        raise InvalidJSON("a buffer member must be a JSON object")
    epoch = _integer(document.pop("epoch", 0), "epoch", 0, EPOCH_MAX)
    return epoch or 0, read_entry(document, "member", now_ms)


def load_json(body: bytes) -> Any:
    """Any JSON, with text mended and depth and numbers checked."""
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_not_json)
    except (ValueError, UnicodeDecodeError) as error:
        if isinstance(error, _Refused):
            raise InvalidJSON(str(error)) from None
        raise InvalidJSON() from None
    except RecursionError:
        raise InvalidJSON(f"JSON may be nested {JSON_DEPTH_MAX} levels deep") from None
    return _mend(document, 1)


class _Refused(ValueError):
    pass


def _not_json(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON")


def _mend(value: Any, depth: int) -> Any:
    """Replace U+0000 and lone surrogates; refuse deep nesting and numbers beyond a double."""
    if isinstance(value, str):
        return mend_text(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidJSON("a number is larger than a double can hold")
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            float(value)
        except OverflowError:
            raise InvalidJSON("a number is larger than a double can hold") from None
        return value
    if isinstance(value, (dict, list)):
        if depth > JSON_DEPTH_MAX:
            raise InvalidJSON(f"JSON may be nested {JSON_DEPTH_MAX} levels deep")
        if isinstance(value, list):
            return [_mend(item, depth + 1) for item in value]
        return {mend_text(key): _mend(item, depth + 1) for key, item in value.items()}
    return value


def mend_text(text: str) -> str:
    """U+0000 and lone surrogates become U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def read_entry(item: Any, path: str, now_ms: int) -> Entry:
    """One entry; `path` prefixes the name of the first bad field."""
    if not isinstance(item, dict):
        raise InvalidField("an entry must be an object", field=path)
    seq = _integer(item.get("seq"), f"{path}.seq", 1, SEQ_MAX)
    if seq is None:
        raise InvalidField("seq is required", field=f"{path}.seq")
    level = _string(item.get("level"), f"{path}.level") or "info"
    message = _string(item.get("message"), f"{path}.message") or ""
    if len(message.encode()) > MESSAGE_BYTES_MAX:
        raise InvalidField(f"message is longer than {MESSAGE_BYTES_MAX} bytes", field=f"{path}.message")
    ts = item.get("ts")
    ts_ms = now_ms if ts is None else _time(ts, f"{path}.ts", now_ms)
    texts: dict[str, Any] = {}
    for name, most in TEXT_CHARS_MAX.items():
        text = _string(item.get(name), f"{path}.{name}")
        if text is not None and len(text) > most:
            raise InvalidField(f"{name} is longer than {most} characters", field=f"{path}.{name}")
        texts[name] = text or None
    attrs = _attrs(item, path)
    return Entry(
        seq, ts_ms, ts is not None, number_of(level), level[:LEVEL_CHARS_MAX], message, attrs, **texts
    )


def _attrs(item: dict[str, Any], path: str) -> bytes | None:
    attrs = item.get("attrs")
    if attrs is not None and not isinstance(attrs, dict):
        raise InvalidField("attrs must be an object", field=f"{path}.attrs")
    unknown = [key for key in item if key not in _ENTRY_KEYS]
    if unknown:
        attrs = dict(attrs or {})
        for key in unknown:
            name = key
            while name in attrs:
                name = "_" + name
            attrs[name] = item[key]
    if attrs is None:
        return None
    text = msgspec.json.encode(attrs)
    if len(text) > ATTRS_BYTES_MAX:
        raise InvalidField(f"attrs is larger than {ATTRS_BYTES_MAX} bytes", field=f"{path}.attrs")
    return text


def _time(value: Any, field: str, now_ms: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise InvalidField("ts must be an RFC 3339 time or integer milliseconds", field=field)
    if isinstance(value, str):
        try:
            value = parse_time(value)
        except ValueError:
            raise InvalidField("ts is not a readable RFC 3339 time", field=field) from None
    if not TS_MIN_MS <= value <= now_ms + TS_FUTURE_MS:
        raise InvalidField("ts must lie between 2000-01-01 and 24 hours from now", field=field)
    return int(value)


def _integer(value: Any, field: str, least: int, most: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidField(f"must be an integer from {least} to {most}", field=field)
    return value


def _string(value: Any, field: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidField("must be a string", field=field)
    return value


def _batch_id(value: Any) -> str | None:
    text = _string(value, "batchId")
    if text is not None and len(text) > BATCH_ID_CHARS_MAX:
        raise InvalidField(f"batchId is longer than {BATCH_ID_CHARS_MAX} characters", field="batchId")
    return text


def _lost(value: Any) -> list[tuple[int, int, str]] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise InvalidField("lost must be an array", field="lost")
    if len(value) > LOST_RANGES_MAX:
        raise InvalidField(f"lost holds at most {LOST_RANGES_MAX} ranges", field="lost")
    read: list[tuple[int, int, str]] = []
    for index, item in enumerate(value):
        field = f"lost[{index}]"
        if not isinstance(item, list) or len(item) != 3 or not isinstance(item[2], str):
            raise InvalidField("must be [from, to, reason]", field=field)
        first = _integer(item[0], f"{field}[0]", 1, SEQ_MAX)
        last = _integer(item[1], f"{field}[1]", 1, SEQ_MAX)
        if first is None or last is None:
            raise InvalidField("must be [from, to, reason]", field=field)
        if first > last:
            raise InvalidField("must be [from, to, reason] with 1 <= from <= to", field=field)
        read.append((first, last, item[2]))
    return read
