"""From what a program hands over to the JSON that is buffered and sent; never raises.

The server refuses a whole batch for one bad entry, so everything it would refuse is mended here, once, at
`append`: over-long fields are cut, what JSON cannot hold becomes text, impossible times become now. Limits
are those of the contracts ingest.md §2 and log-service.md §3.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

MESSAGE_BYTES_MAX = 1024 * 1024
ATTRS_BYTES_MAX = 1024 * 1024
ATTRS_DEPTH_MAX = 60  # the server takes 64, counted from the body: body, batch, entry, attrs
ENTRY_BYTES_MAX = 3 * 1024 * 1024  # one entry must fit the 4 MiB body together with the envelope
CUT_HEAD_CHARACTERS = 64 * 1024
TS_MIN_MS = 946_684_800_000  # 2000-01-01
TS_AHEAD_MAX_MS = 23 * 3600 * 1000  # the server allows 24 h ahead of its own clock
INT_MAX = 2**63

TEXT_CHARACTERS_MAX: Mapping[str, int] = {
    "level": 20,
    "trace_id": 64,
    "request_id": 64,
    "span_id": 32,
    "user_id": 128,
    "source": 255,
    "host": 255,
    "environment": 50,
    "category": 100,
    "user_agent": 255,
    "release": 100,
}

_SURROGATE = re.compile("[\ud800-\udfff]")
_LONG_NUMBER = re.compile(r"\d{19}")


def encode(entry: Mapping[str, object], now_ms: int, *, stamp: bool = True) -> str:
    """The entry's JSON without its opening brace, epoch and seq: `"ts":1,"level":"info",…}`.

    `entry` has the keys of ingest.md §2; other keys move into `attrs`. With `stamp` an absent `ts` becomes
    `now_ms`; without, it stays absent and the server puts the time of receipt.
    """
    attrs = _attrs(entry)
    parts: dict[str, object] = {}
    ts = milliseconds(entry.get("ts"), now_ms, attrs)
    if ts is not None or stamp:
        parts["ts"] = now_ms if ts is None else ts
    for name, limit in TEXT_CHARACTERS_MAX.items():
        value = entry.get(name)
        if value is not None and (text := text_of(value)):
            parts[name] = text[:limit]
    parts["message"] = cut_bytes(text_of(entry.get("message", "")), MESSAGE_BYTES_MAX)
    head = dumps(parts)[1:-1]
    # Control characters take six bytes each as JSON: such a message is cut until the whole entry fits.
    while len(head.encode()) > ENTRY_BYTES_MAX - ATTRS_BYTES_MAX:
        parts["message"] = cut_bytes(str(parts["message"]), len(str(parts["message"]).encode()) // 2)
        head = dumps(parts)[1:-1]
    return f'{head},"attrs":{attrs_json(attrs)}}}' if attrs else head + "}"


def cut_bytes(text: str, bytes_max: int) -> str:
    """The longest prefix of `text` that is at most `bytes_max` of UTF-8."""
    if len(text) * 4 <= bytes_max:
        return text
    data = text.encode()
    return text if len(data) <= bytes_max else data[:bytes_max].decode("utf-8", "ignore")


def _attrs(entry: Mapping[str, object]) -> dict[str, object]:
    given = entry.get("attrs")
    attrs: dict[str, object] = {}
    if isinstance(given, Mapping):
        attrs.update({text_of(key): value for key, value in given.items()})
    elif given is not None:
        attrs["_value"] = given
    for key, value in entry.items():
        if key not in TEXT_CHARACTERS_MAX and key not in ("message", "ts", "attrs") and value is not None:
            attrs.setdefault(text_of(key), value)
    return attrs


def milliseconds(ts: object, now_ms: int, attrs: dict[str, object]) -> int | None:
    """`ts` as integer milliseconds; what cannot be sent is kept as the attribute `_ts`."""
    if ts is None:
        return None
    value: float | None = None
    try:
        if isinstance(ts, str):
            ts = datetime.fromisoformat(ts)
        if isinstance(ts, datetime):
            value = (ts if ts.tzinfo else ts.replace(tzinfo=UTC)).timestamp() * 1000
        elif isinstance(ts, (int, float)):
            value = ts
        if value is not None and TS_MIN_MS <= value <= now_ms + TS_AHEAD_MAX_MS:
            return round(value)
    except (ValueError, OverflowError):
        pass
    attrs.setdefault("_ts", text_of(ts))
    return None


def text_of(value: object) -> str:
    try:
        text = value if type(value) is str else str(value)
    except Exception:  # a broken __str__ must not end the program that logs
        text = f"<unprintable {type(value).__name__}>"
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


# Made once: `json.dumps` with options builds an encoder per call, which costs as much as the encoding.
_STRICT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_LENIENT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=text_of)


def dumps(value: object) -> str:
    return _STRICT.encode(value)


def attrs_json(attrs: dict[str, object]) -> str:
    """JSON of the attributes: fast when they are plain, else mended value by value."""
    try:
        text = _LENIENT.encode(attrs)
        deep = text.count("{") + text.count("[") > ATTRS_DEPTH_MAX
        if deep or _LONG_NUMBER.search(text) or not (text.isascii() or not _SURROGATE.search(text)):
            text = dumps(_mend(attrs, 0))
    except (ValueError, TypeError, RecursionError):
        text = dumps(_mend(attrs, 0))
    size = len(text.encode())
    if size <= ATTRS_BYTES_MAX:
        return text
    return dumps({"_cut_bytes": size, "_head": text[:CUT_HEAD_CHARACTERS]})


def _mend(value: object, depth: int, above: tuple[int, ...] = ()) -> object:  # noqa: PLR0911
    """The nearest value that JSON and the server can hold. `above`: ids of the containers around it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -INT_MAX <= value < INT_MAX else _number_text(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(float(value))
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        if depth >= ATTRS_DEPTH_MAX or id(value) in above:
            return "<nested too deep>"
        above = (*above, id(value))
        if isinstance(value, Mapping):
            return {text_of(key): _mend(item, depth + 1, above) for key, item in value.items()}
        return [_mend(item, depth + 1, above) for item in value]
    return text_of(value)


def _number_text(value: int) -> str:
    # Python refuses to print integers of more than 4,300 digits; their size is what can be said.
    return str(value) if value.bit_length() < 10_000 else f"<integer of {value.bit_length()} bits>"
