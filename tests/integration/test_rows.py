"""What the hand-written COPY format writes, Postgres reads: every column comes back as it was."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

import asyncpg

from tests.making import NOW_MS, request
from tracehub.pipeline.store import Moment, seen, store
from tracehub.protocol.messages import Entry, entry_id
from tracehub.storage.postgres.connect import open_pool
from tracehub.storage.postgres.ledger import PostgresLedger
from tracehub.storage.postgres.rows import COLUMNS
from tracehub.storage.redis.keys import ZERO_TENANT

TEXTS = (
    "trace_id", "span_id", "request_id", "user_id", "category", "source", "host", "environment", "user_agent",
    "release", "app_id",
)  # fmt: skip


def at(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)


def as_doubles(attrs: str | bytes | None) -> object:
    """attrs as a value; jsonb writes 1e308 with all its zeros."""
    return None if attrs is None else json.loads(attrs, parse_int=float)


async def rows_of(url: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url, ssl=False)
    try:
        return list(await connection.fetch("select * from logs order by seq"))
    finally:
        await connection.close()


async def test_every_column_comes_back(database: str) -> None:
    odd = ["", "a", "é\U0001f600\ufffd", "\t\n\\.\r", "'\"--", "x" * 70_000, "\x01\x7f\x1b[2J"]
    entries = [
        Entry(
            seq, ms, True, severity, "info", text, attrs,
            **{name: f"{name} {text}"[:60] if seq % 2 else None for name in TEXTS},
        )
        for seq, (text, ms, severity, attrs) in enumerate(
            [
                (text, ms, severity, attrs)
                for text, (ms, severity, attrs) in zip(
                    odd,
                    [
                        (946_684_800_000, 1, None), (946_684_800_001, 24, b"{}"), (NOW_MS, 9, b'{"a":[1,null,1e308]}'),
                        (NOW_MS + 1, 9, '{"é":"😀"}'.encode()), (1_709_164_799_999, 17, b'{"n":' + b"9" * 300 + b"}"),
                        (1_709_164_800_000, 17, b'{"x":"' + b"y" * 100_000 + b'"}'), (NOW_MS, 13, None),
                    ],
                    strict=True,
                )
            ],
            1,
        )
    ]  # fmt: skip
    made = request((), entries=[*entries, Entry(2**53 - 1, NOW_MS, False, 9, "é" * 20, "last")])
    async with open_pool(database, "test") as pool:
        done = await store(PostgresLedger(pool), [made], Moment(seen(), NOW_MS + 5))
    assert done.outcomes[0].accepted == len(made.entries)
    rows = await rows_of(database)
    assert set(rows[0].keys()) == set(COLUMNS)
    for index, (row, one) in enumerate(zip(rows, made.entries, strict=True)):
        assert (row["seq"], row["severity"], row["level"], row["message"]) == (
            one.seq,
            one.severity,
            one.level,
            one.message,
        )
        assert (row["ts"], row["created_at"]) == (at(one.ts_ms), at(NOW_MS + 5))
        assert row["id"] == uuid.UUID(bytes=entry_id(made.id_base, index))
        assert (str(row["tenant_id"]), row["door"], row["service"], row["batch_id"]) == (
            ZERO_TENANT,
            "ingest",
            "svc",
            "batch",
        )
        assert {name: row[name] for name in TEXTS} == {name: getattr(one, name) for name in TEXTS}
        assert as_doubles(row["attrs"]) == as_doubles(one.attrs)


async def test_days_can_be_partitions(database: str) -> None:
    """Other width, same rows; a database that has months already keeps them."""
    stamps = [946_684_800_000, 946_771_199_999, 946_771_200_000, NOW_MS]
    entries = [Entry(seq, ms, True, 9, "info", "m") for seq, ms in enumerate(stamps, 1)]
    async with open_pool(database, "test") as pool:
        await store(PostgresLedger(pool), [request((), entries=entries[3:])], Moment(seen(), NOW_MS))
        await store(
            PostgresLedger(pool, partition="day"), [request((), entries=entries)], Moment(seen(), NOW_MS)
        )
        names = await pool.fetch("select inhrelid::regclass::text as name from pg_inherits order by 1")
    assert [row["ts"] for row in await rows_of(database)] == [at(ms) for ms in stamps]
    tables = {
        row["name"] for row in names if row["name"].count("_") <= 3 and row["name"].startswith("logs_2")
    }
    assert {"logs_2000_01_01", "logs_2000_01_02"} <= tables
    assert f"logs_{at(NOW_MS):%Y_%m}" in tables
