"""Ids: one UUIDv7 per entry, made as a base per request and a place in it (log-service.md §1.3).

The base holds 48 bits of milliseconds, 42 random bits and 32 zero bits for the place, so the ids of a request
ascend, need no room in the job, and are the same however often the job runs. Randomness is an argument.
"""

from __future__ import annotations

from base64 import b32encode

ID_BASE_RANDOM_BYTES = 6
# The standard library writes base 32 in another alphabet of the same order.
_CROCKFORD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789ABCDEFGHJKMNPQRSTVWXYZ")


def id_base(now_ms: int, random: bytes) -> bytes:
    """The id of a request's first entry. `random`: ID_BASE_RANDOM_BYTES bytes."""
    bits = int.from_bytes(random, "big")
    value = (now_ms & (2**48 - 1)) << 80
    value |= 0x7 << 76 | (bits >> 30 & 0xFFF) << 64
    value |= 0b10 << 62 | (bits & (2**30 - 1)) << 32
    return value.to_bytes(16, "big")


def sortable_id(now_ms: int, random: bytes) -> str:
    """A time-sortable, unique text of 26 characters (a ULID) for batches and jobs. `random`: 10 bytes."""
    value = (now_ms & (2**48 - 1)) << 80 | int.from_bytes(random[:10], "big")
    return ulid(value)


def ulid(value: int) -> str:
    """128 bits as 26 characters of Crockford's base 32."""
    return b32encode((value << 6).to_bytes(17, "big"))[:26].translate(_CROCKFORD).decode()
