"""Reading the fields of a JSON document: what every door beside `/ingest` checks by.

Guarantee: text that comes out has neither U+0000 nor lone surrogates; attrs are JSON that Postgres takes. Errors
name the first bad field. Limits: limits.py; depth and numbers as lenient.py has them.
"""

from __future__ import annotations

import re
import uuid
from typing import Any, Final

import msgspec

from tracehub.protocol.errors import InvalidField, InvalidId, InvalidJSON
from tracehub.protocol.lenient import load_json
from tracehub.protocol.limits import ATTRS_BYTES_MAX, JSON_DEPTH_MAX, TS_FUTURE_MS, TS_MIN_MS
from tracehub.protocol.times import parse_time

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_ODD: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])|\d{19}|[eE]\+?\d{3}")
_ESCAPE: Final = re.compile(rb"\\.", re.DOTALL)
_STRING: Final = re.compile(rb'"[^"]*"')
_AS_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b'[]{}"'))
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}").fullmatch
_ULID: Final = re.compile(r"[0-7OoIiLl][0-9A-HJKMNP-TV-Za-hjkmnp-tv-zOoIiLl]{25}").fullmatch
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MISREAD: Final = str.maketrans("OIL", "011")


def read_json(body: bytes) -> Any:
    """Any JSON, at most JSON_DEPTH_MAX levels deep. Raises InvalidJSON."""
    if _ODD.search(body) or is_deep(body):
        return load_json(body)  # mends text, and says what is wrong
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return load_json(body)


def read_object(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises InvalidJSON."""
    document = read_json(body)
    if not isinstance(document, dict):
        raise InvalidJSON("the body must be a JSON object")
    return document


def is_deep(body: bytes) -> bool:
    """Whether brackets are nested deeper than JSON_DEPTH_MAX, or nothing that closes.

    Each round takes the innermost pairs away, all at once: a loop over brackets costs seconds where there are millions.
    """
    if body.count(b"{") + body.count(b"[") <= JSON_DEPTH_MAX:
        return False
    plain = _ESCAPE.sub(b"", body) if b"\\" in body else body
    brackets = _STRING.sub(b"", plain.translate(_AS_SQUARE, _NO_BRACKETS))
    if b"[" * (JSON_DEPTH_MAX + 1) in brackets:
        return True
    for _ in range(JSON_DEPTH_MAX):
        before, brackets = len(brackets), brackets.replace(b"[]", b"")
        if not brackets or len(brackets) == before:
            break
    return bool(brackets)


def text(value: Any, field: str, most: int) -> str | None:
    """A string of at most `most` characters; null and "" are None."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidField("must be a string", field=field)
    if len(value) > most:
        raise InvalidField(f"is longer than {most} characters", field=field)
    return value


def time_ms(value: Any, field: str, now_ms: int) -> int:
    """A time from 2000-01-01 to a day from now, in Unix milliseconds."""
    if not isinstance(value, str):
        raise InvalidField("must be an RFC 3339 time", field=field)
    try:
        ms = parse_time(value)
    except ValueError:
        raise InvalidField("is not a readable RFC 3339 time", field=field) from None
    if not in_time(ms, now_ms):
        raise InvalidField("must lie between 2000-01-01 and 24 hours from now", field=field)
    return ms


def in_time(ms: int, now_ms: int) -> bool:
    """Whether an entry may have this time."""
    return TS_MIN_MS <= ms <= now_ms + TS_FUTURE_MS


def encode_attrs(value: Any, field: str) -> bytes:
    """attrs as JSON text: an object as it is, anything else as `{"_value": …}`, which every door unwraps."""
    encoded = _encode(value if isinstance(value, dict) else {"_value": value})
    if len(encoded) > ATTRS_BYTES_MAX:
        raise InvalidField(f"is larger than {ATTRS_BYTES_MAX} bytes", field=field)
    return encoded


def add_unknown(attrs: Any, unknown: dict[str, Any]) -> Any:
    """Keys that no field has are kept in attrs, when that is absent or an object without the key."""
    if not unknown:
        return attrs
    if attrs is None:
        return unknown
    return {**unknown, **attrs} if isinstance(attrs, dict) else attrs


def read_id(value: str) -> uuid.UUID:
    """A UUID or a ULID, as people write them. Raises InvalidId."""
    if _UUID(value):
        return uuid.UUID(value)
    plain = value.replace("-", "")
    if not _ULID(plain):
        raise InvalidId
    number = 0
    for letter in plain.upper().translate(_MISREAD):
        number = number << 5 | _CROCKFORD.index(letter)
    return uuid.UUID(int=number)


def ulid(entry_id: bytes) -> str:
    """16 bytes as a ULID: 26 letters, upper case."""
    number = int.from_bytes(entry_id, "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
