"""DB_MAX_OPEN_CONNS bounds what a process has, and everything still works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

import asyncpg
import httpx
import pytest

from tests.integration.asking import batch
from tests.integration.conftest import Deployment

MOST = 8


async def test_a_process_keeps_within_its_connections(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(db_max_open_conns=MOST)
    deployment.both()
    limits = httpx.Limits(max_connections=80)
    looking = await asyncpg.connect(deployment.database, ssl=False)
    try:
        async with httpx.AsyncClient(
            base_url=deployment.url, trust_env=False, timeout=30, limits=limits
        ) as client:
            working = [
                *(client.post("/ingest", json=batch(f"svc-{n}", 1, 50)) for n in range(20)),
                *(client.get("/api/v1/logs", params={"search": f"x{n}"}) for n in range(20)),
                *(client.get("/proof") for _ in range(20)),
            ]
            done = asyncio.gather(*working)
            most: dict[str, int] = {}
            while not done.done():
                for name, count in await looking.fetch(
                    "select application_name, count(*) from pg_stat_activity"
                    " where datname = current_database() and application_name like 'tracehub%' group by 1"
                ):
                    most[name] = max(most.get(name, 0), count)
            assert {answer.status_code for answer in await done} == {200}
        of_backend = sum(count for name, count in most.items() if name.startswith("tracehub-backend"))
        of_worker = sum(most.values()) - of_backend
        assert 1 < of_backend <= MOST
        assert 1 <= of_worker <= MOST
    finally:
        await looking.close()


def test_parts_of_addresses_reach_the_stores(
    deploy: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As other programs name them: POSTGRES_… to one backend, DB_… to another, REDIS_… to both."""
    deployment = deploy(database_url="", redis_url="", buffer_redis_url="")
    store, queue = urlsplit(deployment.database), urlsplit(deployment.queue_url)
    database = store.path.strip("/")
    parts = {"HOST": store.hostname, "PORT": store.port, "USER": store.username, "PASSWORD": store.password}
    secret = unquote(queue.password or "")
    for name, value in {"HOST": queue.hostname, "PORT": queue.port, "PASSWORD": secret, "DB": 0}.items():
        monkeypatch.setenv(f"REDIS_{name}", str(value))
    for prefix, rest in (("POSTGRES_", {"DB": database}), ("DB_", {"NAME": database, "SSL_MODE": "disable"})):
        with monkeypatch.context() as patch:
            for name, value in {**parts, **rest}.items():
                patch.setenv(prefix + name, unquote(str(value)))
            part = deployment.backend()
        told = httpx.get(part.url + "/health", trust_env=False).json()
        assert (told["postgres"], told["redis"]) == ("up", "up")
