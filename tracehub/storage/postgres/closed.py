"""Closed partitions are indexed harder than the hot one (ADR 2): what a search needs and the ingest could not afford.

A partition is closed CLOSED_AFTER_MS after its last moment; entries that come later still go in, only slower. Indexes
are made one after the other and concurrently, so nobody waits for them; one whose making was cut off is made anew.
"""

from __future__ import annotations

from typing import Final

import asyncpg

from tracehub.protocol.times import DAY_MS
from tracehub.storage.postgres.failures import translated
from tracehub.storage.postgres.partitions import bounds_of
from tracehub.storage.postgres.queries import SQL

CLOSED_AFTER_MS: Final = DAY_MS
INDEXES: Final = {
    "id": "(id)",
    "trace": "(trace_id) where trace_id is not null",
    "request": "(request_id) where request_id is not null",
    "service": "(tenant_id, service, ts)",
    "message": "using gin (message gin_trgm_ops)",
    "attrs": "using gin (attrs jsonb_path_ops)",
}


async def index_closed(pool: asyncpg.Pool, now_ms: int) -> list[str]:
    """Make the indexes that closed partitions lack; their names. Empty while another process is at it.

    Raises Transient when Postgres is out of reach.
    """
    with translated():
        async with pool.acquire() as connection:
            if not await connection.fetchval(SQL.closing_lock):
                return []
            try:
                return await _make(connection, now_ms)
            finally:
                await connection.execute(SQL.closing_unlock)


async def _make(connection: asyncpg.pool.PoolConnectionProxy, now_ms: int) -> list[str]:
    names = [row["name"] for row in await connection.fetch(SQL.partitions)]
    closed = sorted(
        name
        for name in names
        if (bounds := bounds_of(name)) is not None and bounds[1] + CLOSED_AFTER_MS <= now_ms
    )
    for row in await connection.fetch(SQL.invalid_indexes, closed):
        await connection.execute(SQL.DROP_INDEX.format(name=row["name"]))
    present = {row["name"] for row in await connection.fetch(SQL.indexes_of, closed)}
    made: list[str] = []
    for name in closed:
        for what, definition in INDEXES.items():
            index = f"{name}_closed_{what}"
            if index not in present:
                await connection.execute(
                    SQL.CLOSED_INDEX.format(index=index, name=name, definition=definition)
                )
                made.append(index)
    return made
