"""What is open while keys are missing, and where the server then refuses to listen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.eventually import eventually, eventually_sync
from tests.integration.asking import batch
from tests.integration.conftest import Deployment
from tests.integration.keyed import ADMIN, READ, WRITE, Watcher, bearer, speaking

START_S = 20.0


async def test_with_a_write_key_alone_reading_stays_open(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(write_key=WRITE)
    deployment.both()
    async with speaking(deployment) as client:
        assert (await client.post("/ingest", json=batch("a", 1))).status_code == 401
        assert (await client.post("/ingest", json=batch("a", 1), headers=bearer(WRITE))).status_code == 200
        assert [s["service"] for s in (await client.get("/services")).json()] == ["a"]
        assert (await client.get("/services", headers=bearer("wrong"))).status_code == 200
        assert (await client.get("/api/v1/logs", headers={"X-Tenant-ID": "b"})).json()["data"][
            "entries"
        ] == []
        assert (await client.get("/services?all_tenants=true")).status_code == 403
        assert (await client.post("/replay", json={"service": "a", "from": 1, "to": 1})).status_code == 401
        assert (await client.get("/api/v1/keys")).status_code == 401
        watcher = Watcher()
        assert await watcher.connect(deployment.url)
        await watcher.leave()


async def test_the_first_key_closes_what_it_grants(deploy: Callable[..., Deployment]) -> None:
    """From open to closed while somebody looks: they go within 5 s."""
    deployment = deploy()
    deployment.both()
    watcher = Watcher()
    async with speaking(deployment) as client:
        assert (await client.get("/login")).status_code == 303  # nothing to log in to
        told = (await client.get("/whoami")).json()
        assert (told["loggedIn"], told["keyId"], told["admin"], told["allTenants"]) == (
            False,
            None,
            True,
            True,
        )
        assert await watcher.connect(deployment.url)
        body = {"name": "first", "scopes": ["admin"]}
        rebound = await client.post("/api/v1/keys", json=body, headers={"Host": "tracehub.example"})
        assert rebound.status_code == 403
        made = await client.post("/api/v1/keys", json=body)
        assert made.status_code == 201
        assert (await client.get("/services")).status_code == 401
        assert (await client.post("/ingest", json=batch("a", 1))).status_code == 401
        await eventually(lambda: not watcher.client.connected, 5)
        key = made.json()["data"]["key"]
        assert (await client.post("/ingest", json=batch("a", 1), headers=bearer(key))).status_code == 200
    await watcher.leave()


@pytest.mark.parametrize(
    ("keys", "missing"),
    [
        ({}, ["TRACEHUB_WRITE_KEY", "TRACEHUB_READ_KEY"]),
        ({"write_key": WRITE}, ["TRACEHUB_READ_KEY"]),
        ({"read_key": READ}, ["TRACEHUB_WRITE_KEY"]),
    ],
)
def test_an_open_server_refuses_to_be_reached(
    deploy: Callable[..., Deployment], keys: dict[str, Any], missing: list[str]
) -> None:
    part = deploy().begin_backend(host="0.0.0.0", **keys)
    assert part.child.wait(START_S) == 2
    said = part.tail().strip()
    assert "\n" not in said
    assert [name for name in ("TRACEHUB_WRITE_KEY", "TRACEHUB_READ_KEY") if name in said] == missing


@pytest.mark.parametrize(
    "keys", [{"admin_key": ADMIN}, {"write_key": WRITE, "read_key": READ}, {"insecure": 1}]
)
def test_a_closed_or_guarded_server_may_be_reached(
    deploy: Callable[..., Deployment], keys: dict[str, Any]
) -> None:
    part = deploy().begin_backend(host="0.0.0.0", **keys)

    def answers() -> bool:
        part.must_run()
        try:
            status = httpx.get(part.url + "/services", trust_env=False).status_code
        except httpx.TransportError:
            return False
        return status == (200 if "insecure" in keys else 401)

    eventually_sync(answers, START_S)


def test_keys_of_the_database_close_it_too(
    deploy: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from apps.cli import app

    deployment = deploy()
    monkeypatch.setenv("TRACEHUB_DATABASE_URL", deployment.database)
    monkeypatch.setenv("TRACEHUB_DATA_DIR", str(deployment.home))
    made = CliRunner().invoke(app, ["keys", "create", "--name", "all", "--scope", "admin"])
    assert made.exit_code == 0, made.output
    part = deployment.begin_backend(host="0.0.0.0")
    key = made.stdout.strip()
    assert key.startswith("th_")

    def asks_for_it() -> bool:
        part.must_run()
        try:
            statuses = [
                httpx.get(part.url + "/services", trust_env=False, headers=h).status_code
                for h in ({}, bearer(key))
            ]
        except httpx.TransportError:
            return False
        return statuses == [401, 200]

    eventually_sync(asks_for_it, START_S)
    listed = CliRunner().invoke(app, ["keys", "list", "--json"])
    assert key not in listed.output
    key_id = httpx.get(part.url + "/api/v1/keys", trust_env=False, headers=bearer(key)).json()["data"][0][
        "id"
    ]
    assert key_id in listed.output
    assert CliRunner().invoke(app, ["keys", "revoke", key_id]).exit_code == 0
    # The last key is gone, but others can reach us: nothing opens.
    eventually_sync(
        lambda: httpx.get(part.url + "/services", trust_env=False, headers=bearer(key)).status_code == 401, 5
    )
    assert httpx.get(part.url + "/services", trust_env=False).status_code == 401
    assert (
        CliRunner().invoke(app, ["keys", "revoke", key_id.replace("a", "b").replace("1", "2")]).exit_code == 1
    )
    assert CliRunner().invoke(app, ["keys", "create", "--name", "x", "--scope", "root"]).exit_code == 2
