"""Claims and leases of alerts in Postgres: of many at once, one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.making import NOW_MS
from tracehub.pipeline.alerts import NewDelivery
from tracehub.protocol.alerts import Alert, AlertRule
from tracehub.storage.postgres.alerts import AlertStore, Reach, Result
from tracehub.storage.postgres.connect import open_pool
from tracehub.storage.postgres.search import LogSearch
from tracehub.storage.redis.keys import ZERO_TENANT

HOOK = {"type": "webhook", "url": "http://h/", "secret": "s"}
MINUTE = 60_000


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(database, "test") as made:
        yield made


@pytest.fixture
def store(pool: asyncpg.Pool) -> AlertStore:
    return AlertStore(pool, LogSearch(pool).fetch)


async def made(store: AlertStore) -> Alert:
    return await store.create(ZERO_TENANT, None, AlertRule("n", {}, 1, channels=(HOOK,)), NOW_MS)


def news() -> list[NewDelivery]:
    return [NewDelivery(uuid.uuid4(), HOOK, b"{}")]


async def test_many_claim_and_one_triggers(store: AlertStore) -> None:
    alert = await made(store)
    for now_ms in (NOW_MS, NOW_MS + MINUTE):
        claims = await asyncio.gather(*(store.claim(alert, now_ms, news()) for _ in range(20)))
        assert sorted(claims) == [False] * 19 + [True]
    assert not await store.claim(alert, NOW_MS + 2 * MINUTE - 1, news())
    assert len(await store.deliveries(alert.id, 100, 0)) == 2
    found = await store.find(uuid.UUID(alert.id), Reach())
    assert found is not None
    assert found.last_triggered_ms == NOW_MS + MINUTE


async def test_a_changed_alert_is_not_triggered_by_its_old_words(store: AlertStore) -> None:
    alert = await made(store)
    changed = await store.update(alert, AlertRule("n", {}, 9), NOW_MS)
    assert changed is not None
    assert await store.update(alert, AlertRule("n", {}, 5), NOW_MS) is None
    assert not await store.claim(alert, NOW_MS, news())
    assert await store.claim(changed, NOW_MS, [])
    off = await store.update(changed, AlertRule("n", {}, 9, enabled=False), NOW_MS)
    assert off is not None
    assert not await store.claim(off, NOW_MS + MINUTE, news())


async def test_a_delivery_is_one_workers_at_a_time(store: AlertStore) -> None:
    alert = await made(store)
    for _ in range(10):
        await store.add_deliveries(alert.id, NOW_MS, news())
    parts = await asyncio.gather(*(store.take(NOW_MS, 30_000, 4) for _ in range(8)))
    ids = [taken.id for part in parts for taken in part]
    assert len(ids) == len(set(ids)) == 10
    assert await store.take(NOW_MS + 29_999, 30_000, 4) == []
    first = next(taken for part in parts for taken in part)
    again = await store.take(NOW_MS + 30_000, 30_000, 16)
    assert len(again) == 10
    assert {taken.attempts for taken in again} == {2}
    # Who comes back from the dead changes nothing: its attempt was the first.
    await store.settle(first, Result("failed", 500, "late", None, NOW_MS))
    assert {d["status"] for d in await store.deliveries(alert.id, 100, 0)} == {"pending"}
    await store.settle(next(t for t in again if t.id == first.id), Result("sent", 200, None, None, NOW_MS))
    assert sorted(d["status"] for d in await store.deliveries(alert.id, 100, 0)) == ["pending"] * 9 + ["sent"]


async def test_two_who_create_at_once_make_no_more_than_allowed(
    store: AlertStore, pool: asyncpg.Pool
) -> None:
    alert = await made(store)
    await pool.execute(
        "insert into alerts select gen_random_uuid(), tenant_id, app_key, name, description, enabled, filter,"
        " threshold, window_mins, severity, cooldown_mins, channels, null, created_at, updated_at"
        " from alerts, generate_series(1, 498) where id = $1::text::uuid",
        alert.id,
    )
    told = await asyncio.gather(*(made(store) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(one, Alert) for one in told) == 1
    assert len(await store.listed(Reach(ZERO_TENANT))) == 500
