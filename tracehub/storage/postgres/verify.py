"""Ledger against rows (ingest.md §9): `tracehub verify [--repair]`.

Guarantee: one REPEATABLE READ snapshot sees ledger and rows of the same moment, so nothing that is stored
meanwhile looks like a difference. Rows are reduced to islands of numbers inside Postgres, partition by
partition, through the belt; memory here stays flat however many rows there are.
`repair` believes the rows: it locks the ledger and rebuilds it from them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import asyncpg

from tracehub.storage.postgres.failures import translated
from tracehub.storage.postgres.queries import SQL

_PARTITION = re.compile(r"^logs_[0-9_]+$")

Progress = Callable[[str, int, int], None]  # partition, its place, how many there are


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at, and every stream that differs (empty = clean)."""

    streams: int
    rows: int
    differences: list[dict[str, Any]]
    repaired: int = 0


async def verify(
    database_url: str, *, repair: bool = False, progress: Progress = lambda *_: None
) -> Verified:
    """Compare all rows with the ledger. Raises Transient when Postgres is out of reach."""
    with translated():
        connection = await asyncpg.connect(database_url, ssl=None if "sslmode=" in database_url else False)
        try:
            # A repair waits for its lock first and must then see what was committed meanwhile.
            isolation = "read_committed" if repair else "repeatable_read"
            async with connection.transaction(isolation=cast(Any, isolation)):
                return await _verify(connection, repair, progress)
        finally:
            await connection.close()


async def _verify(connection: asyncpg.Connection, repair: bool, progress: Progress) -> Verified:
    if repair:
        await connection.execute(SQL.verify_lock)
    await connection.execute(SQL.VERIFY_TABLE)
    names = sorted(row["name"] for row in await connection.fetch(SQL.partitions))
    names = [name for name in names if _PARTITION.match(name)]
    for place, name in enumerate(names, 1):
        progress(name, place, len(names))
        await connection.execute(SQL.VERIFY_PARTITION.format(name=name))
    counts = (await connection.fetch(SQL.verify_counts))[0]
    differences = [dict(row) for row in await connection.fetch(SQL.verify_differences)]
    repaired = 0
    if repair:
        repaired = int((await connection.execute(SQL.verify_repair)).split()[-1])
    return Verified(counts["streams"], counts["rows"], differences, repaired)
