"""Ids: one UUIDv7 per entry, made as a base per request and a place in it (log-service.md §1.3).

The base holds 48 bits of milliseconds, 42 random bits and 32 zero bits for the place, so the ids of a request
ascend, need no room in the job, and are the same however often the job runs. Randomness is an argument.
"""

from __future__ import annotations

ID_BASE_RANDOM_BYTES = 6


def id_base(now_ms: int, random: bytes) -> bytes:
    """The id of a request's first entry. `random`: ID_BASE_RANDOM_BYTES bytes."""
    bits = int.from_bytes(random, "big")
    value = (now_ms & (2**48 - 1)) << 80
    value |= 0x7 << 76 | (bits >> 30 & 0xFFF) << 64
    value |= 0b10 << 62 | (bits & (2**30 - 1)) << 32
    return value.to_bytes(16, "big")


def ms_of(base: bytes) -> int:
    """The Unix milliseconds of an id that was made here."""
    return int.from_bytes(base[:6], "big")


def sortable_id(now_ms: int, random: bytes) -> str:
    """A time-sortable, unique text for batches and jobs: 12 hexadecimal digits of time, then the random ones."""
    return f"{now_ms:012x}{random.hex()}"


def request_id(random: bytes) -> str:
    """A UUIDv4 from 16 random bytes; `uuid.uuid4` takes ten times as long, and every answer has one."""
    digits = random.hex()
    variant = "89ab"[random[8] & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
