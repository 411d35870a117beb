"""Rows of `logs` in Postgres' binary COPY format, built before any lock is taken.

Guarantee: the bytes are what `COPY logs (COLUMNS) FROM STDIN (FORMAT binary)` reads; values that repeat
within a request are encoded once. Source: PostgreSQL manual, COPY, "Binary Format".
Why by hand: this runs once per row and is most of what a worker does; generic encoding costs about four
times as much (docs/performance.md).
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import lru_cache
from struct import Struct

from tracehub.protocol.messages import Own, Request, StreamKey, id_of

# Constant within a request first: they become one piece of bytes.
COLUMNS = (
    "stream_id", "created_at", "tenant_id", "door", "service", "batch_id",
    "seq", "ts", "id", "severity",
    "level", "message", "trace_id", "request_id", "span_id", "user_id", "category", "source", "host",
    "environment", "user_agent", "release", "app_id", "attrs",
)  # fmt: skip

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + b"\0" * 8
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"
CHUNK_BYTES = 256 * 1024
POSTGRES_EPOCH_MS = 946_684_800_000

_length = Struct(">i").pack
_head = Struct(">hiqiqi16s").pack  # fields, stream_id, created_at, tenant_id
_fixed = Struct(">iqiqiQQih").pack  # seq, ts, id in two halves, severity
_halves = Struct(">QQ").unpack
_JSONB_VERSION = b"\x01"


def text(value: str) -> bytes:
    """One text field: its length and its bytes."""
    data = value.encode()
    return _length(len(data)) + data


@lru_cache(maxsize=10_000)
def _tenant(tenant_id: str) -> bytes:
    return uuid.UUID(tenant_id).bytes


class _Texts(dict[str | None, bytes]):
    """Encoded text fields by value: most repeat within a batch. None is NULL."""

    def __missing__(self, value: str | None) -> bytes:
        encoded = NULL if value is None else text(value)
        self[value] = encoded
        return encoded


class _Prefixes(dict[tuple[str, str, str | None], bytes]):
    """What the rows of a tenant, service and batch begin with."""

    def __init__(self, door: str, stream_id: int, created_ms: int) -> None:
        super().__init__()
        self._door = text(door)
        self._numbers = (len(COLUMNS), 8, stream_id, 8, (created_ms - POSTGRES_EPOCH_MS) * 1000, 16)

    def __missing__(self, key: tuple[str, str, str | None]) -> bytes:
        tenant_id, service, batch_id = key
        batch = NULL if batch_id is None else text(batch_id)
        made = _head(*self._numbers, _tenant(tenant_id)) + self._door + text(service) + batch
        self[key] = made
        return made


def encode_request(request: Request, stream_id: int, created_ms: int) -> list[bytes]:
    """The rows of one request, in its order."""
    prefixes = _Prefixes(request.door, stream_id, created_ms)
    common = prefixes[request.stream.tenant_id, request.service, request.batch_id]
    high, low = _halves(request.id_base)  # the low half begins with room for the place in the batch
    texts = _Texts()
    join, length, fixed = b"".join, _length, _fixed
    rows: list[bytes] = []
    for e in request.entries:
        message = e.message.encode()
        attrs, own = e.attrs, e.own
        if own is None:
            prefix, first, second = common, high, low
        else:
            prefix = prefixes[own.tenant_id, own.service, own.batch_id]
            first, second = (high, low) if own.id is None else _halves(own.id)
        rows.append(
            join(
                (
                    prefix,
                    fixed(
                        8, e.seq, 8, (e.ts_ms - POSTGRES_EPOCH_MS) * 1000, 16, first, second, 2, e.severity
                    ),
                    texts[e.level],
                    length(len(message)),
                    message,
                    texts[e.trace_id],
                    texts[e.request_id],
                    texts[e.span_id],
                    texts[e.user_id],
                    texts[e.category],
                    texts[e.source],
                    texts[e.host],
                    texts[e.environment],
                    texts[e.user_agent],
                    texts[e.release],
                    texts[e.app_id],
                    NULL if attrs is None else length(len(attrs) + 1) + _JSONB_VERSION + attrs,
                )
            )
        )
        low += 1
    return rows


def columns(
    requests: Sequence[Request], streams: Mapping[StreamKey, int], created_ms: int
) -> list[list[object]]:
    """The same rows by column, in the order of COLUMNS, times in Unix milliseconds: for a statement that takes
    few of them."""
    rows = [
        (
            streams[q.stream], created_ms, own.tenant_id, q.door, own.service, own.batch_id,
            e.seq, e.ts_ms, id_of(q, index).hex(), e.severity,
            e.level, e.message, e.trace_id, e.request_id, e.span_id, e.user_id, e.category, e.source, e.host,
            e.environment, e.user_agent, e.release, e.app_id, e.attrs and e.attrs.decode(),
        )
        for q in requests
        for common in (Own(q.stream.tenant_id, q.service, q.batch_id),)
        for index, e in enumerate(q.entries)
        for own in (e.own or common,)
    ]  # fmt: skip
    return [list(column) for column in zip(*rows, strict=True)]


class EncodedRows:
    """Rows of several requests; entries can still be left out. Implements ports.Rows."""

    def __init__(
        self, requests: Sequence[Request], streams: Mapping[StreamKey, int], created_ms: int
    ) -> None:
        self._rows = [encode_request(r, streams[r.stream], created_ms) for r in requests]

    def leave_out(self, request: int, indexes: set[int]) -> None:
        """Drop these entries of the request at this position."""
        rows = self._rows[request]
        self._rows[request] = [row for index, row in enumerate(rows) if index not in indexes]

    def __len__(self) -> int:
        return sum(map(len, self._rows))

    async def chunks(self) -> AsyncIterator[bytes]:
        """The COPY stream, in pieces of about CHUNK_BYTES."""
        pieces: list[bytes] = [SIGNATURE]
        size = 0
        for rows in self._rows:
            for row in rows:
                pieces.append(row)
                size += len(row)
                if size >= CHUNK_BYTES:
                    yield b"".join(pieces)
                    pieces, size = [], 0
        pieces.append(TRAILER)
        yield b"".join(pieces)
