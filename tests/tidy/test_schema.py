"""One schema: schema.sql may run twice, and a migrated database is the same as a new one."""

from __future__ import annotations

import asyncpg
import pytest

from tracehub.storage.postgres.migrate import Migration, MigrationRefused, migrate, migrations, schema_text
from tracehub.storage.postgres.queries import SQL

STEP = Migration(
    1,
    "widen",
    "alter table losses add column if not exists ticket text; create index losses_ticket on losses (ticket)",
)

DESCRIPTION = """
select 'column', table_name, column_name, data_type || coalesce(column_default, '') || is_nullable
  from information_schema.columns where table_schema = 'public'
union all select 'index', tablename, indexname, indexdef from pg_indexes where schemaname = 'public'
union all select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
  from pg_constraint where connamespace = 'public'::regnamespace
union all select 'function', proname, pg_get_function_arguments(oid), pg_get_functiondef(oid)
  from pg_proc where pronamespace = 'public'::regnamespace and prokind = 'f'
   and not exists (select from pg_depend d where d.objid = pg_proc.oid and d.deptype = 'e')
union all select 'options', relname, relkind::text, coalesce(reloptions::text, '') from pg_class
  where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'i', 'I')
order by 1, 2, 3, 4"""


async def described(url: str) -> list[tuple[str, ...]]:
    """Everything a schema consists of."""
    connection = await asyncpg.connect(url, ssl=False)
    try:
        return [tuple(row) for row in await connection.fetch(DESCRIPTION)]
    finally:
        await connection.close()


async def run(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url, ssl=False)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


async def test_schema_may_run_twice(database: str) -> None:
    before = await described(database)
    assert len(before) > 50
    await run(database, schema_text())
    assert await described(database) == before


async def test_migrating_again_changes_nothing(database: str) -> None:
    before = await described(database)
    assert await migrate(database) == []
    assert await described(database) == before


async def test_a_migrated_database_equals_a_new_one(
    database: str, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old schema and one step against the new schema that has the step in it."""
    steps = [*migrations(), Migration(len(migrations()) + 1, STEP.name, STEP.text)]
    assert await migrate(database, steps) == ["widen"]
    assert await migrate(database, steps) == []
    monkeypatch.setattr(
        "tracehub.storage.postgres.migrate.schema_text", lambda: schema_text() + ";\n" + STEP.text + ";"
    )
    assert await migrate(empty_database, steps) == ["schema.sql"]
    assert await described(database) == await described(empty_database)
    assert await migrate(empty_database, steps) == []


async def test_the_steps_make_what_the_schema_says(database: str) -> None:
    """A database from before the keys, brought to this version."""
    new = await described(database)
    await run(database, "drop table api_keys, logins; delete from tracehub_migrations where version >= 3")
    assert await described(database) != new
    assert "keys" in await migrate(database)
    assert await described(database) == new


async def test_a_step_that_was_changed_or_is_unknown_is_refused(database: str) -> None:
    number = len(migrations()) + 1
    steps = [*migrations(), Migration(number, STEP.name, STEP.text)]
    await migrate(database, steps)
    with pytest.raises(MigrationRefused):
        await migrate(database, [*migrations(), Migration(number, STEP.name, "select 1")])
    with pytest.raises(MigrationRefused):
        await migrate(database, migrations())


async def test_a_step_that_fails_leaves_nothing_behind(database: str) -> None:
    before = await described(database)
    broken = Migration(len(migrations()) + 1, "broken", "create table half (x int); select no_such_thing()")
    with pytest.raises(asyncpg.UndefinedFunctionError):
        await migrate(database, [*migrations(), broken])
    assert await described(database) == before


async def test_somebody_elses_database_is_left_alone(empty_database: str) -> None:
    await run(empty_database, "create table theirs (x int)")
    with pytest.raises(MigrationRefused):
        await migrate(empty_database)
    assert [row[1] for row in await described(empty_database) if row[0] == "column"] == ["theirs"]


async def test_partitions_are_like_their_parent(database: str) -> None:
    """Made apart and attached: same columns and indexes, and the belt."""
    make = SQL.PARTITION_MAKE.format(
        name="logs_2026_01", first="2026-01-01 00:00:00+00", last="2026-02-01 00:00:00+00"
    )
    await run(database, make)
    rows = await described(database)
    columns = {t: [r[2:] for r in rows if r[0] == "column" and r[1] == t] for t in ("logs", "logs_2026_01")}
    assert columns["logs"] == columns["logs_2026_01"]
    indexes = [r[3] for r in rows if r[0] == "index" and r[1] == "logs_2026_01"]
    assert len(indexes) == 1 + sum(r[0] == "index" and r[1] == "logs" for r in rows)
    assert any("UNIQUE" in definition and "(stream_id, seq)" in definition for definition in indexes)
