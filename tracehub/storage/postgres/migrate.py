"""Brings a database to this version: schema.sql for a new one, numbered migrations for an old one.

Guarantee: one process at a time (advisory lock); a migration that ran is never run again, and one whose text
changed afterwards is refused; a database that is not empty and not ours is left alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from tracehub.protocol.errors import TraceHubError

HERE = Path(__file__).parent
_TABLE = """
create table if not exists tracehub_migrations (
    version    integer primary key,
    name       text        not null,
    checksum   text        not null,
    applied_at timestamptz not null default now()
)"""


class MigrationRefused(TraceHubError):
    """The database cannot be migrated"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step: `NNNN_name.sql`."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Of its text, so that a change after the fact is seen."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def schema_text() -> str:
    """schema.sql: beside this file in an installed package, at the root of a checkout."""
    for path in (HERE / "schema.sql", HERE.parents[2] / "schema.sql"):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise MigrationRefused("schema.sql is missing from this installation; install tracehub again")


def migrations(folder: Path = HERE / "migrations") -> list[Migration]:
    """All steps in order; their numbers run from 1 without a hole."""
    steps = [
        Migration(int(path.name[:4]), path.stem[5:], path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    ]
    assert [step.version for step in steps] == list(range(1, len(steps) + 1))
    return steps


async def migrate(database_url: str, steps: list[Migration] | None = None) -> list[str]:
    """Migrate; returns the names of the steps that ran. Raises MigrationRefused, OSError, asyncpg errors."""
    steps = migrations() if steps is None else steps
    connection = await asyncpg.connect(database_url, ssl=None if "sslmode=" in database_url else False)
    try:
        await connection.execute("select pg_advisory_lock(7310, 0)")
        async with connection.transaction():
            return await _migrate(connection, steps)
    finally:
        await connection.close()


async def _migrate(connection: asyncpg.Connection, steps: list[Migration]) -> list[str]:
    ours = await connection.fetchval("select to_regclass('tracehub_migrations') is not null")
    if not ours:
        tables = await connection.fetchval(
            "select count(*) from pg_class where relkind in ('r', 'p', 'v', 'm')"
            " and relnamespace = 'public'::regnamespace"
        )
        if tables:
            raise MigrationRefused(
                "this database holds tables that are not TraceHub's; give it an empty one (--database-url)"
            )
        await connection.execute(schema_text())
        await connection.execute(_TABLE)
        for step in steps:
            await _record(connection, step)
        return ["schema.sql"]
    applied = {
        row["version"]: row["checksum"]
        for row in await connection.fetch("select version, checksum from tracehub_migrations")
    }
    if applied and max(applied) > len(steps):
        raise MigrationRefused("this database was migrated by a newer TraceHub; upgrade this one")
    ran: list[str] = []
    for step in steps:
        if step.version in applied:
            if applied[step.version] != step.checksum:
                raise MigrationRefused(f"migration {step.version:04} was changed after it had run")
            continue
        await connection.execute(step.text)
        await _record(connection, step)
        ran.append(step.name)
    return ran


async def _record(connection: asyncpg.Connection, step: Migration) -> None:
    await connection.execute(
        "insert into tracehub_migrations (version, name, checksum) values ($1, $2, $3)",
        step.version, step.name, step.checksum,
    )  # fmt: skip
