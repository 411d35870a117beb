"""Retention on a server as an operator runs it: what goes, what stays, and that all sums stay right."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from tests.conftest import Databases
from tests.eventually import eventually
from tests.integration.asking import batch
from tests.integration.conftest import Deployer, Deployment
from tests.integration.retaining import Kept, a_tenant, ago, entries

GIB = 2**30


@pytest.fixture(scope="module")
def keeping(
    databases: Databases, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    home = tmp_path_factory.mktemp("keeping")
    deployer = Deployer(databases, migrated_template, home)
    with deployer.stack:
        deployment = deployer.make(log_cleanup_enabled=0, archive_dir=home / "archive")
        deployment.both()
        yield deployment


async def speaking_for(deployment: Deployment) -> AsyncIterator[Kept]:
    tenant = a_tenant()
    connection = await asyncpg.connect(deployment.database, ssl=False)
    try:
        async with httpx.AsyncClient(
            base_url=deployment.url, trust_env=False, timeout=30, headers={"X-Tenant-ID": tenant}
        ) as client:
            yield Kept(deployment, connection, client, tenant, deployment.home.parent / "archive")
    finally:
        await connection.close()


@pytest.fixture
async def kept(keeping: Deployment) -> AsyncIterator[Kept]:
    async for one in speaking_for(keeping):
        yield one


@pytest.fixture
async def other(keeping: Deployment) -> AsyncIterator[Kept]:
    async for one in speaking_for(keeping):
        yield one


async def partitions(kept: Kept) -> set[str]:
    rows = await kept.connection.fetch(
        "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'logs'::regclass"
    )
    return {row["relname"] for row in rows}


def partition_of(timestamp: str) -> str:
    return f"logs_{timestamp[:4]}_{timestamp[5:7]}"


async def test_a_longer_policy_keeps_what_the_default_would_not(kept: Kept) -> None:
    await kept.write(entries(1, ago(60)) + entries(1, ago(91), service_name="older"))
    await kept.age()
    await kept.policy(retention_days=90)
    told = await kept.run()
    assert (told["deleted_rows"], told["archived"], told["error"], told["dry_run"]) == (1, 0, None, False)
    assert told["tenants"] == 1
    assert [e["service_name"] for e in await kept.shown()] == ["old"]
    await kept.is_sound()


async def test_a_shorter_policy_deletes_what_the_default_would_keep(kept: Kept, other: Kept) -> None:
    for one in (kept, other):
        await one.write(entries(1, ago(8)) + entries(1, ago(6.9), service_name="younger"))
        await one.age()
    await kept.policy(retention_days=7)
    assert (await kept.run())["deleted_rows"] == 1
    assert (await other.run())["deleted_rows"] == 0
    assert [e["service_name"] for e in await kept.shown()] == ["younger"]
    assert len(await other.shown()) == 2
    await kept.is_sound()


async def test_old_files_shipped_today_stay(kept: Kept) -> None:
    await kept.write(entries(3, ago(500)))
    assert (await kept.run())["deleted_rows"] == 0
    await kept.age(29)
    assert (await kept.run())["deleted_rows"] == 0
    await kept.age(31)
    assert (await kept.run())["deleted_rows"] == 3
    await kept.is_sound()


async def test_a_partition_of_which_nothing_stays_is_dropped(kept: Kept) -> None:
    when = "2011-05-05T10:00:00Z"
    ids = [str(uuid.uuid4()) for _ in range(300)]
    old = [{**e, "id": ids[n]} for n, e in enumerate(entries(300, when))]
    await kept.write(old)
    await kept.write(entries(50, when, service_name="serverside"))
    await kept.age()
    assert partition_of(when) in await partitions(kept)
    expired = await kept.expired()
    told = await kept.run()
    assert (told["deleted_rows"], told["dropped_partitions"]) == (350, 1)
    assert partition_of(when) not in await partitions(kept)
    assert await kept.expired() - expired == 350
    await kept.is_sound()
    assert (await kept.client.get("/api/v1/logs/services")).json()["data"] == []

    # Workers that remember the partition store into it all the same; an expired id is a new row.
    await kept.write(old[:7])
    await kept.write(entries(500, when))
    assert len(await kept.rows()) == 507
    await kept.is_sound()


async def test_a_partition_in_which_somebody_stays_is_not_dropped(kept: Kept, other: Kept) -> None:
    when = "2011-07-05T10:00:00Z"
    for one in (kept, other):
        await one.write(entries(20, when))
    await kept.age()
    told = await kept.run()
    assert (told["deleted_rows"], told["dropped_partitions"]) == (20, 0)
    assert partition_of(when) in await partitions(kept)
    assert len(await other.rows()) == 20
    for one in (kept, other):
        await one.is_sound()


async def test_sequences_stay_whole_and_resends_are_duplicates(kept: Kept) -> None:
    service = f"seq-{uuid.uuid4().hex[:8]}"
    body = batch(service, *range(1, 41))
    for n, one in enumerate(body["batch"]):
        one["ts"] = ago(45) if n < 30 else ago(1)
    first = await kept.client.post("/ingest", json=body)
    assert (first.status_code, first.json()["ackTill"]) == (200, 40), first.text
    await kept.age()
    assert (await kept.run())["deleted_rows"] == 30
    await kept.is_sound()
    again = await kept.client.post("/ingest", json=body)
    assert (again.json()["ackTill"], again.json()["duplicates"], again.json()["accepted"]) == (40, 40, 0)
    more = batch(service, 41)
    assert (await kept.client.post("/ingest", json=more)).json()["ackTill"] == 41
    assert len(await kept.rows()) == 11
    await kept.is_sound()
    proof = (await kept.client.get("/proof", params={"service": service})).json()["streams"][0]
    assert (proof["stored"], proof["expired"], proof["lost"], proof["unaccounted"]) == (41, 30, 0, 0)


async def test_a_client_id_sent_again_after_it_expired_is_a_new_row(kept: Kept) -> None:
    entry = {**entries(1, ago(45))[0], "id": str(uuid.uuid4())}
    await kept.write([entry])
    await kept.write([entry])
    assert len(await kept.rows()) == 1
    await kept.age()
    assert (await kept.run())["deleted_rows"] == 1
    await kept.is_sound()  # its id is forgotten
    await kept.write([entry])
    await kept.write([entry])
    assert len(await kept.rows()) == 1
    await kept.is_sound()


async def share(kept: Kept) -> int:
    return int((await kept.client.get("/api/v1/logs/storage")).json()["data"]["size_bytes"])


async def test_the_oldest_go_until_a_tenant_is_within_its_limit(kept: Kept) -> None:
    for day in range(10, 0, -1):
        await kept.write(entries(100, ago(day), service_name=f"day-{day}", host="h" * 200))
    before = await share(kept)
    policy = await kept.policy(max_size_gb=before / 2 / GIB)
    told = await kept.run()
    left = await kept.shown()
    assert told["deleted_rows"] == 1000 - len(left)
    assert 350 <= len(left) <= 650
    assert [e["timestamp"] for e in left] == sorted(e["timestamp"] for e in left)
    assert {e["service_name"] for e in left} >= {f"day-{day}" for day in range(1, 4)}  # the newest
    assert "day-10" not in {e["service_name"] for e in left}
    assert before * 0.4 <= await share(kept) <= before * 0.501
    await kept.is_sound()

    # What deleted rows left behind on the disk is nobody's: the next run has nothing to do.
    assert (await kept.run())["deleted_rows"] == 0
    changed = await kept.client.put(f"/api/v1/retention/{policy['id']}", json={"max_size_gb": 1e-9})
    assert changed.status_code == 200
    assert (await kept.run(dry_run=True))["deleted_rows"] == len(left)
    assert (await kept.run())["deleted_rows"] == len(left)
    await kept.is_sound()


async def test_a_dry_run_counts_and_changes_nothing(kept: Kept) -> None:
    when = "2012-03-03T10:00:00Z"
    await kept.write(entries(40, when) + entries(60, ago(5)) + entries(30, ago(4), host="x" * 255))
    await kept.age(800)
    await kept.policy(retention_days=20, max_size_gb=5_000 / GIB, archive_enabled=True, archive_path="dry")
    before = await kept.shown(), await kept.connection.fetch("select * from ack_state order by stream_id")
    dry = await kept.run(dry_run=True)
    assert (
        await kept.shown(),
        await kept.connection.fetch("select * from ack_state order by stream_id"),
    ) == before
    assert kept.archived("dry") == {}
    await kept.is_sound()
    real = await kept.run()
    assert dry["dry_run"]
    for name in ("archived", "deleted_rows", "dropped_partitions", "tenants"):
        assert dry[name] == real[name], name
    assert (real["dropped_partitions"], real["archived"]) == (1, real["deleted_rows"])
    assert 40 < real["deleted_rows"] <= 130


async def test_archives_hold_every_deleted_entry_as_the_door_showed_it(kept: Kept) -> None:
    folder = uuid.uuid4().hex
    odd: list[Any] = [{}, [1, {"a": None}], "text", None, {"big": 2**53 + 1, "é": "\u2028 '\"\\"}]
    written = [
        {**entries(1, ago(40 + n % 3, n))[0], "metadata": odd[n % 5], "level": "notice", "trace_id": f"t{n}"}
        for n in range(60)
    ]
    await kept.write(written + entries(5, "2011-09-09T09:09:09.123Z") + entries(5, ago(1)))
    await kept.age()
    await kept.policy(archive_enabled=True, archive_path=folder)
    before = await kept.shown()
    told = await kept.run()
    assert (told["archived"], told["deleted_rows"], told["dropped_partitions"]) == (65, 65, 1)
    files = kept.archived(folder)
    assert [line for name in sorted(files) for line in files[name]] == before[:65]
    for name, lines in files.items():
        tenant, day, file = name.split("/")
        assert tenant == kept.tenant
        assert {line["timestamp"][:10] for line in lines} == {day}
        assert file.endswith(f"_{told['id']}.jsonl.gz")
    assert len(await kept.shown()) == 5
    await kept.is_sound()


async def test_what_cannot_be_archived_is_kept_and_said(kept: Kept) -> None:
    folder = uuid.uuid4().hex
    days = [ago(42), ago(41), ago(40)]
    await kept.write([e for day in days for e in entries(4, day)] + entries(3, "2011-11-11T11:11:11Z"))
    await kept.age()
    policy = await kept.policy(archive_enabled=True, archive_path=folder)
    # A file stands where the folder of one day should be: this slice cannot be written, the others can.
    blocked = kept.archives / folder / kept.tenant / days[1][:10]
    blocked.parent.mkdir(parents=True)
    blocked.touch()
    told = await kept.run()
    assert told["error"].startswith("1 slices could not be archived")
    assert (told["archived"], told["deleted_rows"]) == (11, 11)
    assert [e["timestamp"] for e in await kept.shown()] == [days[1]] * 4
    await kept.is_sound()
    blocked.unlink()
    told = await kept.run()
    assert (told["error"], told["archived"], told["deleted_rows"]) == (None, 4, 4)
    assert policy["archive_path"] == folder


async def test_entries_are_stored_while_others_are_deleted(kept: Kept) -> None:
    await kept.write(entries(15_000, ago(40)))
    await kept.age()
    run_id = await kept.ask()
    stored, slowest = 0, 0.0
    loop = asyncio.get_running_loop()
    while not (await kept.told(run_id)).get("finished_at"):
        began = loop.time()
        await kept.write(entries(3, ago(0), service_name="new") + entries(2, ago(41), service_name="late"))
        slowest = max(slowest, loop.time() - began)
        stored += 5
    told = await kept.told(run_id)
    assert (told["deleted_rows"], told["error"]) == (15_000, None)
    assert stored > 5
    assert slowest < 3
    assert len(await kept.rows()) == stored
    await kept.is_sound()


async def test_answers_from_before_are_forgotten(kept: Kept) -> None:
    when = ago(45)
    await kept.write(entries(4, when))
    await kept.age()
    closed = {"start": ago(46), "end": ago(44)}

    async def count() -> int:
        return int((await kept.client.get("/api/v1/logs", params=closed)).json()["data"]["total_count"])

    assert await count() == 4
    assert (await kept.client.get("/api/v1/logs", params=closed)).headers["x-cache"] == "hit"
    await kept.run()
    assert await count() == 0


async def test_the_view_names_fields_as_the_door_does(kept: Kept) -> None:
    await kept.write([{**entries(1, ago(0))[0], "metadata": [1, 2], "level": "fatal"}])
    row = await kept.connection.fetchrow("select * from log_entries where tenant_id = $1", kept.tenant)
    assert (row["service_name"], row["level"], row["metadata"]) == ("old", "FATAL", "[1, 2]")


async def test_partitions_are_there_before_they_are_needed(kept: Kept) -> None:
    months: list[str] = []
    now = ago(0)
    year, month = int(now[:4]), int(now[5:7])
    for n in range(4):
        months.append(f"logs_{year + (month - 1 + n) // 12}_{(month - 1 + n) % 12 + 1:02}")

    async def there() -> bool:
        return set(months) <= await partitions(kept)

    assert await eventually(there, 20)


async def test_closed_partitions_are_indexed_by_the_worker(kept: Kept) -> None:
    when = "2013-01-01T00:00:00Z"
    await kept.write(entries(1, when))
    kept.deployment.worker()

    async def indexed() -> bool:
        return bool(
            await kept.connection.fetchval("select to_regclass($1)", f"{partition_of(when)}_closed_message")
        )

    assert await eventually(indexed, 30)


async def test_tenants_without_a_policy_share_one_limit(deploy: Callable[..., Deployment]) -> None:
    """And a past partition that only a limit lets go is dropped as well."""
    limit = 400_000
    deployment = deploy(log_cleanup_enabled=0, log_max_size_gb=limit / GIB)
    await asyncio.to_thread(deployment.both)
    async with AsyncExitStack() as stack:
        tenants = [
            await stack.enter_async_context(asynccontextmanager(speaking_for)(deployment)) for _ in range(3)
        ]
        for n, one in enumerate(tenants):
            for days in range(20, 0, -1):
                await one.write(entries(50, ago(days, n), service_name=f"day-{days}"))
            await one.write(entries(50, "2014-02-03T04:05:06Z", service_name="past"))
        one, two, ruled = tenants
        await ruled.policy(retention_days=100)
        assert await share(one) + await share(two) > 1.2 * limit
        told = await one.ended(await one.ask_all())
        assert await share(one) + await share(two) <= limit
        shown = await one.shown() + await two.shown()
        left = sorted(e["timestamp"] for e in shown)
        assert 300 < len(left) < 2_000
        assert told["deleted_rows"] == 2_100 - len(left)
        assert left[0] > ago(20)
        assert len(await ruled.rows()) == 1_050
        assert told["tenants"] == 3
        for tenant in tenants:
            await tenant.is_sound()
