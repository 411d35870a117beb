"""Policies and runs over HTTP: who may, what is refused, what a merge changes."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import Databases
from tests.integration.conftest import Deployer, Deployment
from tests.integration.keyed import ADMIN, KEYS, READ, made_key, speaking
from tests.integration.retaining import a_tenant

PATH = "/api/v1/retention"


@pytest.fixture(scope="module")
def ruled(
    databases: Databases, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    home = tmp_path_factory.mktemp("ruled")
    deployer = Deployer(databases, migrated_template, home)
    with deployer.stack:
        deployment = deployer.make(
            **KEYS, archive_dir=home / "archive", archive_schemes="s3,gs", archive_prefixes="s3://shared/team"
        )
        deployment.backend()
        yield deployment


@pytest.fixture
async def admin(ruled: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    """An unbound admin in a tenant of the test's own."""
    async with speaking(ruled, ADMIN, X_Tenant_ID=a_tenant()) as client:
        yield client


async def made(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post(PATH, json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["success"] is True
    told: dict[str, Any] = answer.json()["data"]
    return told


def refused(answer: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["success"] is False
    error = answer.json()["error"]
    assert (error["code"], error.get("field")) == (code, field), answer.text


async def test_defaults_and_shape(admin: httpx.AsyncClient) -> None:
    policy = await made(admin)
    assert list(policy) == [
        "id", "tenant_id", "retention_days", "max_size_gb", "archive_enabled", "archive_path", "created_at",
        "updated_at",
    ]  # fmt: skip
    assert policy["tenant_id"] == admin.headers["X-Tenant-ID"]
    assert [policy[k] for k in ("retention_days", "max_size_gb", "archive_enabled", "archive_path")] == [
        30, 10, False, None,
    ]  # fmt: skip
    assert (await admin.get(PATH)).json()["data"] == [policy]
    assert (await admin.get(f"{PATH}/tenant/{policy['tenant_id']}")).json()["data"] == policy


async def test_a_tenant_has_one_policy(admin: httpx.AsyncClient) -> None:
    policy = await made(admin, retention_days=7)
    refused(await admin.post(PATH, json={"retention_days": 8}), 409, "conflict")
    assert (await admin.get(PATH)).json()["data"] == [policy]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"retention_days": 0}, "retention_days"),
        ({"retention_days": 3651}, "retention_days"),
        ({"retention_days": 1.5}, "retention_days"),
        ({"retention_days": "7"}, "retention_days"),
        ({"retention_days": True}, "retention_days"),
        ({"max_size_gb": 0}, "max_size_gb"),
        ({"max_size_gb": -1}, "max_size_gb"),
        ({"max_size_gb": "1"}, "max_size_gb"),
        ({"archive_enabled": "yes"}, "archive_enabled"),
        ({"archive_enabled": True}, "archive_path"),
        ({"archive_enabled": True, "archive_path": ""}, "archive_path"),
        ({"archive_path": "x" * 501}, "archive_path"),
        ({"archive_path": 7}, "archive_path"),
        ({"archive_path": "/etc"}, "archive_path"),
        ({"archive_path": "../outside"}, "archive_path"),
        ({"archive_path": "in/../../outside"}, "archive_path"),
        ({"archive_path": "file:///etc"}, "archive_path"),
        ({"archive_path": "http://example/x"}, "archive_path"),
        ({"archive_path": "simplecache::s3://bucket/x"}, "archive_path"),
        ({"archive_path": "s3://bucket/../x"}, "archive_path"),
        ({"archive_path": "s3://key:secret@bucket/x"}, "archive_path"),
        ({"archive_path": "s3:///x"}, "archive_path"),
        ({"retention_day": 7}, "retention_day"),
    ],
)
async def test_bad_values(admin: httpx.AsyncClient, body: dict[str, Any], field: str) -> None:
    refused(await admin.post(PATH, json=body), 400, "invalid_request", field)
    assert (await admin.get(PATH)).json()["data"] == []
    policy = await made(admin)
    refused(await admin.put(f"{PATH}/{policy['id']}", json=body), 400, "invalid_request", field)
    assert (await admin.get(PATH)).json()["data"] == [policy]


@pytest.mark.parametrize("body", ["", "[]", "7", "{"])
async def test_bodies_that_are_no_object(admin: httpx.AsyncClient, body: str) -> None:
    answer = await admin.post(PATH, content=body, headers={"content-type": "application/json"})
    refused(answer, 400, "invalid_request")


@pytest.mark.parametrize("path", ["days", "s3://bucket/logs", "gs://bucket", "a/../b"])
async def test_places_that_are_allowed(admin: httpx.AsyncClient, path: str) -> None:
    assert (await made(admin, archive_enabled=True, archive_path=path))["archive_path"] == path


async def test_links_out_of_the_archive_are_refused(admin: httpx.AsyncClient, ruled: Deployment) -> None:
    archive = ruled.home.parent / "archive"
    archive.mkdir(exist_ok=True)
    link = archive / f"link-{uuid.uuid4().hex}"
    link.symlink_to(ruled.home)
    refused(await admin.post(PATH, json={"archive_path": link.name}), 400, "invalid_request", "archive_path")
    assert (await made(admin, archive_path=str(archive / "inside")))["archive_path"]


async def test_a_merge_changes_what_was_sent_only(admin: httpx.AsyncClient) -> None:
    policy = await made(admin, retention_days=7, max_size_gb=2.5, archive_enabled=True, archive_path="here")
    answer = await admin.put(
        f"{PATH}/{policy['id'].upper()}",
        json={
            "max_size_gb": 3,
            "id": str(uuid.uuid4()),
            "tenant_id": "other",
            "created_at": "2000-01-01T00:00:00Z",
        },
    )
    changed = answer.json()["data"]
    assert answer.status_code == 200
    assert changed["updated_at"] >= policy["updated_at"]
    assert {**changed, "updated_at": ""} == {**policy, "max_size_gb": 3, "updated_at": ""}
    refused(
        await admin.put(f"{PATH}/{policy['id']}", json={"archive_path": None}),
        400,
        "invalid_request",
        "archive_path",
    )
    cleared = await admin.put(f"{PATH}/{policy['id']}", json={"archive_path": None, "archive_enabled": False})
    assert (cleared.json()["data"]["archive_path"], cleared.json()["data"]["retention_days"]) == (None, 7)


async def test_ids(admin: httpx.AsyncClient) -> None:
    unknown = f"{PATH}/{uuid.uuid4()}"
    refused(await admin.put(unknown, json={}), 404, "NOT_FOUND")
    assert (await admin.request("DELETE", unknown, json={})).status_code == 204
    for method in ("PUT", "DELETE"):
        refused(await admin.request(method, f"{PATH}/five", json={}), 400, "invalid_id")
    refused(await admin.get(f"{PATH}/tenant/a b"), 400, "invalid_tenant_id")
    missing = await admin.get(f"{PATH}/tenant/{uuid.uuid4()}")
    refused(missing, 404, "NOT_FOUND")
    assert missing.json()["error"]["message"] == "Retention policy not found"
    policy = await made(admin)
    for _ in range(2):
        answer = await admin.request("DELETE", f"{PATH}/{policy['id']}", json={})
        assert (answer.status_code, answer.content) == (204, b"")
    assert (await admin.get(PATH)).json()["data"] == []


async def test_tenants_do_not_see_each_other(admin: httpx.AsyncClient, ruled: Deployment) -> None:
    policy = await made(admin, retention_days=99)
    bound = (await made_key(ruled, "admin", tenant_id="team-r"))["key"]
    path = f"{PATH}/{policy['id']}"
    async with (
        speaking(ruled, bound) as other,
        speaking(ruled, ADMIN) as anybody,
        speaking(ruled, READ) as reader,
    ):
        assert (await other.get(PATH)).json()["data"] == []
        refused(await other.get(f"{PATH}/tenant/{policy['tenant_id']}"), 404, "NOT_FOUND")
        refused(await reader.get(f"{PATH}/tenant/{policy['tenant_id']}"), 404, "NOT_FOUND")
        refused(await other.put(path, json={"retention_days": 1}), 404, "NOT_FOUND")
        assert (await other.request("DELETE", path, json={})).status_code == 204
        assert (await admin.get(PATH)).json()["data"] == [policy]
        assert policy in (await anybody.get(PATH)).json()["data"]
        assert policy not in (await reader.get(PATH)).json()["data"]
        named = await reader.get(PATH, headers={"X-Tenant-ID": policy["tenant_id"]})
        assert named.json()["data"] == [policy]
        assert (await anybody.put(path, json={"retention_days": 98})).json()["data"]["retention_days"] == 98
        own = (await other.post(PATH, json={"tenant_id": policy["tenant_id"]})).json()["data"]
        assert own["tenant_id"] != policy["tenant_id"]  # a bound key's own, whatever the body says
        named_tenant = str(uuid.uuid4())
        assert (await made(anybody, tenant_id=named_tenant))["tenant_id"] == named_tenant
        refused(await anybody.post(PATH, json={"tenant_id": "a b"}), 400, "invalid_tenant_id")


async def test_bound_keys_archive_below_their_prefixes(ruled: Deployment) -> None:
    bound = (await made_key(ruled, "admin", tenant_id=a_tenant()))["key"]
    async with speaking(ruled, bound) as client:
        for path in ("s3://elsewhere/x", "s3://shared/teams/x", "gs://shared/team/x"):
            refused(
                await client.post(PATH, json={"archive_path": path}), 400, "invalid_request", "archive_path"
            )
        assert (await made(client, archive_path="s3://shared/team/x"))["archive_path"] == "s3://shared/team/x"


async def test_a_key_of_one_service_changes_no_policy(ruled: Deployment) -> None:
    bound = (await made_key(ruled, "admin", tenant_id=a_tenant(), app_key="svc"))["key"]
    async with speaking(ruled, bound) as client:
        refused(await client.post(PATH, json={}), 403, "forbidden")
        refused(await client.post(f"{PATH}/run", json={}), 403, "forbidden")


async def test_runs_are_asked_for_and_listed(admin: httpx.AsyncClient, ruled: Deployment) -> None:
    answer = await admin.post(f"{PATH}/run?dry_run=true", json={})
    assert (answer.status_code, list(answer.json()["data"])) == (202, ["run_id"])
    [run] = (await admin.get(f"{PATH}/runs")).json()["data"]
    assert run == {
        "id": answer.json()["data"]["run_id"], "started_at": None, "finished_at": None, "dry_run": True,
        "archived": 0, "deleted_rows": 0, "dropped_partitions": 0, "error": None, "tenants": 0,
    }  # fmt: skip
    refused(await admin.post(f"{PATH}/run?dry_run=perhaps", json={}), 400, "invalid_request", "dry_run")
    async with speaking(ruled, ADMIN) as anybody:
        second = (await anybody.post(f"{PATH}/run", json={})).json()["data"]["run_id"]
        ids = [run["id"] for run in (await anybody.get(f"{PATH}/runs")).json()["data"]]
        assert ids[:2] == [second, run["id"]]
    assert [r["id"] for r in (await admin.get(f"{PATH}/runs")).json()["data"]] == [run["id"]]
