"""A worker that is killed in the middle of a run: another one goes on, nothing is lost or counted twice."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import httpx
import pytest

from tests.eventually import eventually
from tests.integration.conftest import Deployment
from tests.integration.retaining import Kept, a_tenant, ago, entries

COUNT = 25_000


@asynccontextmanager
async def looking(deployment: Deployment) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(deployment.database, ssl=False)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


@pytest.mark.parametrize("is_archived", [False, True])
async def test_a_killed_run_is_gone_on_with(
    deploy: Callable[..., Deployment], stack: AsyncExitStack, is_archived: bool
) -> None:
    deployment = deploy(log_cleanup_enabled=0)
    deployment.settings["archive_dir"] = deployment.home / "archive"
    await asyncio.to_thread(deployment.both)
    connection = await stack.enter_async_context(looking(deployment))
    headers = {"X-Tenant-ID": a_tenant()}
    async with httpx.AsyncClient(
        base_url=deployment.url, trust_env=False, timeout=60, headers=headers
    ) as client:
        kept = Kept(deployment, connection, client, headers["X-Tenant-ID"], deployment.home / "archive")
        when = ago(0)[:8] + "01T00:00:00Z"  # of this month, so that no partition is dropped
        written = [
            {**e, "message": f"{n:05}", "id": str(uuid.uuid4())} for n, e in enumerate(entries(COUNT, when))
        ]
        await kept.write(written)
        await kept.age()
        await kept.policy(
            retention_days=3_650, max_size_gb=1e-9, archive_enabled=is_archived, archive_path="killed"
        )
        run_id = await kept.ask()

        async def half_way() -> bool:
            return 0 < (await kept.told(run_id))["deleted_rows"] < COUNT

        await eventually(half_way, 30)
        [worker] = [part for part in deployment.parts if part.worker_id]
        os.kill(worker.child.pid, signal.SIGKILL)
        worker.child.wait()
        half = await connection.fetchval("select count(*) from logs")
        assert 0 < half < COUNT
        await kept.is_sound()
        in_archives = {e["message"] for lines in kept_lines(kept) for e in lines}
        if is_archived:
            assert in_archives | set(await kept.rows()) == {e["message"] for e in written}
        await asyncio.to_thread(deployment.worker)
        told = await kept.ended(run_id)
        assert (told["deleted_rows"], told["error"]) == (COUNT, None)
        assert told["archived"] == (COUNT if is_archived else 0)
        assert await kept.rows() == []
        messages = sorted(e["message"] for lines in kept_lines(kept) for e in lines)
        assert messages == ([f"{n:05}" for n in range(COUNT)] if is_archived else [])
        await kept.is_sound()


def kept_lines(kept: Kept) -> list[list[dict[str, str]]]:
    """The lines of all archives that are whole."""
    return list(kept.archived("killed").values())


async def test_a_schedule_asks_once_for_all_workers(
    deploy: Callable[..., Deployment], stack: AsyncExitStack
) -> None:
    deployment = deploy(log_cleanup_cron="* * * * *")
    for _ in range(2):
        deployment.begin_worker()
    connection = await stack.enter_async_context(looking(deployment))

    async def ran() -> bool:
        return bool(
            await connection.fetchval("select count(*) from retention_runs where finished_at is not null")
        )

    await eventually(ran, 80)
    rows = await connection.fetch("select due, tenant_id, dry_run from retention_runs")
    assert len({row["due"] for row in rows}) == len(rows)
    assert all(row["due"].second == 0 and row["tenant_id"] is None and not row["dry_run"] for row in rows)
