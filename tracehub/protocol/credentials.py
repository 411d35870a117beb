"""What a client shows to be let in (log-service.md §1.4). Pure: headers and a query string in, a credential out.

Rules: the first credential present decides, in the order of `Kind`; one that is empty is absent; values are
trimmed. Which kinds a door reads is its own business. Whether a key is right is not decided here.
A key is `th_` and 40 of [0-9A-Za-z]: 238 bits, fit for a DSN. Only its SHA-256 digest is ever stored.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, Flag, auto
from typing import Final
from urllib.parse import parse_qsl

PREFIX: Final = "th_"
LETTERS: Final = 40
RANDOM_BYTES: Final = 32  # 256 bits for 40 letters of 62, which hold 238
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SHAPE = re.compile(r"th_[0-9A-Za-z]{40}").fullmatch


class Kind(Flag):
    """How a key may be shown; in the order in which they are looked at."""

    BEARER = auto()
    PAIR = auto()  # X-Api-Key + X-Api-Token
    TOKEN = auto()  # ?token=
    BASIC = auto()  # the password


EVERYWHERE: Final = Kind.BEARER | Kind.PAIR


class Missing(Enum):
    """Why there is no credential."""

    NOTHING = auto()
    HALF_A_PAIR = auto()


@dataclass(frozen=True, slots=True)
class Credential:
    """A key as it was shown; `app_key` is the first half of a pair."""

    kind: Kind
    secret: str
    app_key: str | None = None


def make_key(random: bytes) -> str:
    """A new key out of RANDOM_BYTES random bytes."""
    assert len(random) == RANDOM_BYTES
    value, letters = int.from_bytes(random, "big"), []
    for _ in range(LETTERS):
        value, place = divmod(value, len(_ALPHABET))
        letters.append(_ALPHABET[place])
    return PREFIX + "".join(letters)


def is_key(text: str) -> bool:
    """Whether a text has the shape of our keys. Keys of the environment need not."""
    return _SHAPE(text) is not None


def digest(secret: str) -> bytes:
    """The SHA-256 of a key: 32 bytes. Any text has one."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def read_credential(
    headers: Iterable[tuple[bytes, bytes]], query: bytes = b"", kinds: Kind = EVERYWHERE
) -> Credential | Missing:
    """The first credential of these kinds. Header names are lower case, as ASGI has them."""
    found = {b"authorization": "", b"x-api-key": "", b"x-api-token": ""}
    for name, value in headers:
        if name in found and not found[name]:
            found[name] = value.decode("latin-1").strip()
    scheme, _, given = found[b"authorization"].partition(" ")
    given, scheme = given.strip(), scheme.lower()
    if Kind.BEARER in kinds and scheme == "bearer" and given:
        return Credential(Kind.BEARER, _text(given))
    app_key, token = _text(found[b"x-api-key"]), _text(found[b"x-api-token"])
    if Kind.PAIR in kinds and app_key and token:
        return Credential(Kind.PAIR, token, app_key)
    if Kind.TOKEN in kinds and (text := _query_token(query)):
        return Credential(Kind.TOKEN, text)
    if Kind.BASIC in kinds and scheme == "basic" and (password := _password(given)):
        return Credential(Kind.BASIC, password)
    return Missing.HALF_A_PAIR if Kind.PAIR in kinds and (app_key or token) else Missing.NOTHING


def _text(value: str) -> str:
    """The bytes of a header as UTF-8 where they are that, for keys of the environment may be any text."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def _query_token(query: bytes) -> str:
    if b"token" not in query:
        return ""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return next((value.strip() for name, value in pairs if name == "token" and value.strip()), "")


def _password(given: str) -> str:
    try:
        text = base64.b64decode(given, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
    return text.partition(":")[2].strip()
