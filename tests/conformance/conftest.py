"""The ledger, in memory and in Postgres: every test of this folder runs on both, and stores in one step where that
is possible, or always by the long way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.making import NOW_MS
from tracehub.pipeline import store as pipeline_store
from tracehub.storage.memory.ledger import MemoryLedger
from tracehub.storage.postgres.connect import open_pool
from tracehub.storage.postgres.ledger import PostgresLedger

POISON = "poison"


@pytest.fixture(params=["one step", "long way"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How small groups are stored."""
    if request.param == "long way":
        monkeypatch.setattr(pipeline_store, "SMALL_ROWS_MAX", 0)


@pytest.fixture(params=["memory", "postgres"])
def ledger_address(request: pytest.FixtureRequest) -> str:
    """Where the ledger of this run is; empty for memory."""
    return str(request.getfixturevalue("database")) if request.param == "postgres" else ""


@pytest.fixture
async def ledger(ledger_address: str) -> AsyncIterator[Any]:
    """A fresh ledger that refuses entries whose message is POISON."""
    if not ledger_address:
        yield MemoryLedger(
            now_ms=lambda: NOW_MS, refuses=lambda e: e.message == POISON, epochs_max=3, services_max=3
        )
        return
    async with open_pool(ledger_address, "conformance") as pool:
        await pool.execute(f"alter table logs add constraint no_poison check (message <> '{POISON}')")
        yield PostgresLedger(pool, epochs_max=3, services_max=3)
