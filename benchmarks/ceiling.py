"""The ceilings: what one connection can COPY into the same columns, and nothing else.

(a) without any index, (a') with ours. Two ways, because both are asked for:
* `records`: binary COPY as a Python program writes it, asyncpg's copy_records_to_table from rows that are
  ready as tuples. This is the ceiling the targets are set against.
* `bytes`: the same rows encoded beforehand, so that the client does nothing but send: the bare server.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from benchmarks import load
from tracehub.protocol.entries import parse_batch
from tracehub.protocol.ids import id_base
from tracehub.protocol.messages import Request, StreamKey, entry_id
from tracehub.storage.postgres.rows import CHUNK_BYTES, COLUMNS, SIGNATURE, TRAILER, encode_request
from tracehub.storage.redis.keys import ZERO_TENANT

BATCH = 500
TRANSACTION_ROWS = 2_500


def requests(rows: int, now_ms: int, services: int = 3) -> list[Request]:
    """The rows as the worker sees them."""
    made = []
    for i in range(rows // BATCH):
        service = f"ceiling-{i % services}"
        batch = parse_batch(
            load.body(service, 1 + BATCH * (i // services), BATCH, seed=i, now_ms=now_ms), now_ms
        )
        base = id_base(now_ms + i, i.to_bytes(6, "big"))
        made.append(
            Request(
                StreamKey(ZERO_TENANT, service, 0),
                "ingest",
                service,
                f"batch-{i:020}",
                base,
                batch.ranges,
                batch.entries,
            )
        )
    return made


class Ceiling:
    """Both ceilings over the same rows."""

    def __init__(self, rows: int, now_ms: int) -> None:
        self._requests = requests(rows, now_ms)
        self._rows = [
            row for i, q in enumerate(self._requests) for row in encode_request(q, 1 + i % 3, now_ms)
        ]
        self._records = [record for i, q in enumerate(self._requests) for record in _records(q, 1 + i % 3)]

    async def measure(self, connection: asyncpg.Connection, *, indexed: bool, encoded: bool) -> float:
        """Rows per second into a fresh table."""
        await connection.execute("drop table if exists ceiling")
        await connection.execute(f"create table ceiling (like logs {'including indexes' if indexed else ''})")
        if indexed:
            await connection.execute("create unique index on ceiling (stream_id, seq)")
        rows: Sequence[Any] = self._rows if encoded else self._records
        started = time.perf_counter()
        for at in range(0, len(rows), TRANSACTION_ROWS):
            part = rows[at : at + TRANSACTION_ROWS]
            async with connection.transaction():
                if encoded:
                    await connection.copy_to_table(
                        "ceiling", source=_chunks(part), columns=COLUMNS, format="binary"
                    )
                else:
                    await connection.copy_records_to_table("ceiling", records=part, columns=COLUMNS)
        seconds = time.perf_counter() - started
        await connection.execute("drop table ceiling")
        return len(rows) / seconds


async def _chunks(rows: Sequence[bytes]) -> AsyncIterator[bytes]:
    data = b"".join((SIGNATURE, *rows, TRAILER))
    for at in range(0, len(data), CHUNK_BYTES):
        yield data[at : at + CHUNK_BYTES]


def _records(request: Request, stream_id: int) -> list[tuple[Any, ...]]:
    created, tenant = datetime.now(UTC), uuid.UUID(request.stream.tenant_id)
    head = (stream_id, created, tenant, request.door, request.service, request.batch_id)
    return [
        (
            *head, e.seq, datetime.fromtimestamp(e.ts_ms / 1000, UTC),
            uuid.UUID(bytes=entry_id(request.id_base, index)), e.severity, e.level, e.message, e.trace_id,
            e.request_id, e.span_id, e.user_id, e.category, e.source, e.host, e.environment, e.user_agent,
            e.release, e.app_id, e.attrs.decode() if e.attrs else None,
        )
        for index, e in enumerate(request.entries)
    ]  # fmt: skip
