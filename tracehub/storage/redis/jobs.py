"""How a job lies in Redis: arq's record, as msgpack. Both sides of the queue use only this. Never pickle."""

from __future__ import annotations

from typing import Any, Final

import msgspec

STORE: Final = "store"
REPLAY: Final = "replay"
# Scores are wall clock: a backend whose clock is ahead would hide its jobs, so they are a day old at birth.
SCORE_HEAD_START_MS: Final = 24 * 3600 * 1000


class _Record(msgspec.Struct):
    f: str
    a: tuple[bytes]


_decode = msgspec.msgpack.Decoder(_Record).decode


def pack(function: str, argument: bytes, now_ms: int) -> bytes:
    """One job: a function name and its one argument."""
    return msgspec.msgpack.encode({"t": None, "f": function, "a": [argument], "k": {}, "et": now_ms})


def unpack(job: bytes) -> tuple[str, bytes]:
    """The function name and the argument of a job. Raises msgspec.DecodeError."""
    record = _decode(job)
    return record.f, record.a[0]


def serialise(record: dict[str, Any]) -> bytes:
    """arq's `job_serializer`; used for its cron jobs."""
    return msgspec.msgpack.encode(record)


def deserialise(data: bytes) -> dict[str, Any]:
    """arq's `job_deserializer`; likewise."""
    record: dict[str, Any] = msgspec.msgpack.decode(data)
    return record
