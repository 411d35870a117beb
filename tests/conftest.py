"""Real servers for the tests that ask for them: one Postgres and two Valkeys per pytest process.

A test that needs none starts none. `database` is a fresh, migrated database of its own (a copy of a template,
some 12 ms), `redis_url` and `buffer_redis_url` are empty Valkeys.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import asyncpg
import pytest
import redis

from tracehub.runtime.embedded import Stores, ephemeral_stores

TEMPLATE = "template_tracehub"

# A variable of the machine must never lead a test to somebody's database, or show it somebody's key.
for name in list(os.environ):
    if name.startswith(
        ("TRACEHUB_", "POSTGRES_", "REDIS_", "DB_", "PG", "LOG_", "SMTP_", "OTEL_")
    ) or name in (
        *("DATABASE_URL", "API_SECRET", "OBS_API_KEY", "UI_SECRET"),
        *("SERVER_PORT", "HTTP_PORT", "WS_PORT", "OBS_PORT"),
    ):
        del os.environ[name]


@dataclass
class Databases:
    """Makes and drops databases over one connection with an event loop of its own."""

    stores: Stores
    _runner: asyncio.Runner = field(
        default_factory=lambda: asyncio.Runner(loop_factory=asyncio.new_event_loop)
    )
    _numbers: Iterator[int] = field(default_factory=count)
    _connection: Any = None

    def _execute(self, statement: str) -> None:
        async def run() -> None:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(self.stores.postgres.url_of("postgres"))
            await self._connection.execute(statement)

        self._runner.run(run())

    def migrate_template(self) -> None:
        from tracehub.storage.postgres.migrate import migrate

        self._execute(f"CREATE DATABASE {TEMPLATE}")
        self._runner.run(migrate(self.stores.postgres.url_of(TEMPLATE)))

    def create(self, template: str) -> str:
        """The name of a new copy of the template."""
        name = f"test_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        if self._connection is not None:
            self._runner.run(self._connection.close())
        self._runner.close()


@pytest.fixture(scope="session")
def stores() -> Iterator[Stores]:
    """Running servers, for tests that kill or inspect them; they are shared by all tests of this process."""
    with ephemeral_stores() as running:
        yield running


@pytest.fixture(scope="session")
def databases(stores: Stores) -> Iterator[Databases]:
    maker = Databases(stores)
    yield maker
    maker.close()


@pytest.fixture(scope="session")
def migrated_template(databases: Databases) -> str:
    databases.migrate_template()
    return TEMPLATE


@pytest.fixture
def database(databases: Databases, migrated_template: str) -> Iterator[str]:
    """The address of a fresh database with the schema in it."""
    name = databases.create(migrated_template)
    yield databases.stores.postgres.url_of(name)
    databases.drop(name)


@pytest.fixture
def empty_database(databases: Databases) -> Iterator[str]:
    """The address of a fresh database with nothing in it."""
    name = databases.create("template1")
    yield databases.stores.postgres.url_of(name)
    databases.drop(name)


def _flushed(url: str) -> str:
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest.fixture
def redis_url(stores: Stores) -> str:
    """The queue's Redis, empty."""
    return _flushed(stores.queue.url)


@pytest.fixture
def buffer_redis_url(stores: Stores) -> str:
    """The Redis of the producers' buffers, empty."""
    return _flushed(stores.buffers.url)
