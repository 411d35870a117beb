"""The door of alerts (log-service.md §7, §10): statuses, words, tenants, secrets."""

from __future__ import annotations

import uuid
from typing import Any

import asyncpg
import httpx
import pytest

from tests.integration.conftest import Deployment
from tests.integration.keyed import ADMIN, READ, made_key, speaking

WEBHOOK = {"type": "webhook", "url": "https://hooks.example.org/x", "secret": "s3cret"}


def rule(**more: Any) -> dict[str, Any]:
    return {"name": "n", "filter": {"level": "ERROR"}, "threshold": 5, **more}


def team() -> str:
    return f"team-{uuid.uuid4().hex[:12]}"


async def created(admin: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await admin.post("/api/v1/alerts", json=rule(**more))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()["data"]
    return made


async def test_life_of_an_alert(closed: Deployment) -> None:
    async with speaking(closed, ADMIN, X_Tenant_ID=team()) as admin:
        made = await created(admin, channels=[WEBHOOK, "slack"], enabled=False)
        assert (made["enabled"], made["window_mins"], made["cooldown_mins"]) == (False, 5, 1)
        assert made["channels"] == [WEBHOOK, "slack"]
        path = f"/api/v1/alerts/{made['id']}"
        assert (await admin.get(path)).json() == {"success": True, "data": made}
        assert (await admin.get("/api/v1/alerts")).json()["data"] == [made]
        changes = {
            "threshold": 9,
            "channels": ["email"],
            "id": team(),
            "created_at": "x",
            "tenant_id": "other",
        }
        put = (await admin.put(path, json=changes)).json()["data"]
        assert put == {**made, "threshold": 9, "channels": ["email"], "updated_at": put["updated_at"]}
        assert put["updated_at"] > made["updated_at"]
        for word, enabled in (("enable", True), ("disable", False), ("disable", False)):
            answer = await admin.post(f"{path}/{word}", json={})
            assert (answer.status_code, answer.content) == (204, b"")
            assert (await admin.get(path)).json()["data"]["enabled"] is enabled
        assert (await admin.get(path + "/deliveries")).json()["data"] == []
        for _ in range(2):
            answer = await admin.request("DELETE", path, json={})
            assert (answer.status_code, answer.content) == (204, b"")
        assert (await admin.get("/api/v1/alerts")).json()["data"] == []


@pytest.mark.parametrize(
    ("method", "tail"),
    [
        ("GET", ""),
        ("PUT", ""),
        ("POST", "/enable"),
        ("POST", "/disable"),
        ("POST", "/test"),
        ("GET", "/deliveries"),
    ],
)
async def test_alerts_that_are_not_there(closed: Deployment, method: str, tail: str) -> None:
    async with speaking(closed, ADMIN, X_Tenant_ID=team()) as admin:
        body = {} if method == "GET" else {"json": {}}
        gone = await admin.request(method, f"/api/v1/alerts/{uuid.uuid4()}{tail}", **body)
        assert (gone.status_code, gone.json()["error"]) == (
            404, {"code": "NOT_FOUND", "message": "Alert not found"},
        )  # fmt: skip
        bad = await admin.request(method, f"/api/v1/alerts/five{tail}", **body)
        assert (bad.status_code, bad.json()["error"]) == (
            400, {"code": "invalid_id", "message": "Invalid alert ID format"},
        )  # fmt: skip
        bad = await admin.request("DELETE", "/api/v1/alerts/five", json={})
        assert bad.status_code == 400


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], None),
        ({"filter": {}, "threshold": 1}, "name"),
        ({"name": "n", "threshold": 1}, "filter"),
        ({"name": "n", "filter": {}}, "threshold"),
        (rule(threshold=0), "threshold"),
        (rule(filter={"level": "loud"}), "filter.level"),
        (rule(filter={"nope": 1}), "filter.nope"),
        (rule(window_mins=1441), "window_mins"),
        (rule(channels=["slack", {"type": "email", "recipients": ["x"]}]), "channels[1].recipients[0]"),
    ],
)
async def test_bad_values_are_refused(closed: Deployment, body: Any, field: str | None) -> None:
    async with speaking(closed, ADMIN, X_Tenant_ID=team()) as admin:
        answer = await admin.post("/api/v1/alerts", json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error.get("field")) == (400, "invalid_request", field)
        if field:
            made = await created(admin)
            sent = {k: v for k, v in body.items() if k.split(".")[0] == field.split(".")[0].split("[")[0]}
            if sent:
                put = await admin.put(f"/api/v1/alerts/{made['id']}", json=sent)
                assert (put.status_code, put.json()["error"]["field"]) == (400, field)


async def test_secrets_are_shown_to_admin_only(closed: Deployment) -> None:
    name = team()
    async with speaking(closed, ADMIN, X_Tenant_ID=name) as admin:
        made = await created(
            admin, channels=[WEBHOOK, {"type": "slack", "webhook": "https://h.example/s3cret"}]
        )
        async with speaking(closed, READ, X_Tenant_ID=name) as reader:
            for path in (f"/api/v1/alerts/{made['id']}", "/api/v1/alerts"):
                answer = await reader.get(path)
                assert answer.status_code == 200
                assert "s3cret" not in answer.text
                assert answer.text.count('"***"') == 2
                assert "s3cret" in (await admin.get(path)).text
                assert answer.headers["cache-control"] == "no-store"


async def test_tenants_see_their_own(closed: Deployment) -> None:
    mine, other = team(), team()
    bound = (await made_key(closed, "admin", tenant_id=other))["key"]
    async with speaking(closed, ADMIN, X_Tenant_ID=mine) as admin:
        made = await created(admin)
    path = f"/api/v1/alerts/{made['id']}"
    async with speaking(closed, bound) as foreign:
        assert (await foreign.get("/api/v1/alerts")).json()["data"] == []
        for method, tail in (("GET", ""), ("PUT", ""), ("POST", "/enable"), ("POST", "/test")):
            answer = await foreign.request(method, path + tail, json={})
            assert answer.status_code == 404, (method, tail)
        assert (await foreign.request("DELETE", path, json={})).status_code == 204
        own = await created(foreign, tenant_id=mine)
        assert own["tenant_id"] != made["tenant_id"]  # a bound key's tenant stands
    async with speaking(closed, ADMIN, X_Tenant_ID=other) as elsewhere:
        assert (await elsewhere.get(path)).status_code == 404
    async with speaking(closed, ADMIN) as anywhere:  # who names no tenant reaches any by id
        assert (await anywhere.get(path)).json()["data"] == made
        assert made["id"] not in (await anywhere.get("/api/v1/alerts")).text
        assert made["id"] in (await anywhere.get("/api/v1/alerts?all_tenants=true")).text
        named = await created(anywhere, tenant_id=mine)
        assert named["tenant_id"] == made["tenant_id"]
        assert (await anywhere.request("DELETE", path, json={})).status_code == 204
        assert (await anywhere.get(path)).status_code == 404
    async with speaking(closed, READ) as reader:
        assert (await reader.get(f"/api/v1/alerts/{named['id']}")).status_code == 404


async def test_a_key_of_a_service_watches_that_service(closed: Deployment) -> None:
    name = team()
    bound = (await made_key(closed, "admin", tenant_id=name, app_key="mine"))["key"]
    async with (
        speaking(closed, bound) as client,
        speaking(closed, ADMIN, X_Tenant_ID=name) as admin,
    ):
        for service in ("mine", "other"):
            entries = [{"service_name": service, "message": "m"}] * 2
            await admin.post("/api/v1/logs/batch", json={"entries": entries})
        foreign = await created(admin)
        made = await created(client, filter={}, channels=["slack"])
        listed = (await client.get("/api/v1/alerts")).json()["data"]
        assert [alert["id"] for alert in listed] == [made["id"]]
        assert (await client.get(f"/api/v1/alerts/{foreign['id']}")).status_code == 404
        assert (await client.post(f"/api/v1/alerts/{made['id']}/test", json={})).status_code == 202
        connection = await asyncpg.connect(closed.database, ssl=False)
        body = await connection.fetchval(
            "select body from alert_deliveries where alert_id = $1::text::uuid", made["id"]
        )
        await connection.close()
        assert b'"count":2' in body
        assert b"other" not in body


async def test_a_tenant_has_at_most_500(closed: Deployment) -> None:
    async with speaking(closed, ADMIN, X_Tenant_ID=team()) as admin:
        made = await created(admin, enabled=False)
        connection = await asyncpg.connect(closed.database, ssl=False)
        await connection.execute(
            "insert into alerts select gen_random_uuid(), tenant_id, app_key, name, description, enabled, filter,"
            " threshold, window_mins, severity, cooldown_mins, channels, null, created_at, updated_at"
            " from alerts, generate_series(1, 499) where id = $1::text::uuid",
            made["id"],
        )
        await connection.close()
        refused = await admin.post("/api/v1/alerts", json=rule())
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
        assert len((await admin.get("/api/v1/alerts")).json()["data"]) == 500


async def test_deliveries_are_paged(closed: Deployment) -> None:
    async with speaking(closed, ADMIN, X_Tenant_ID=team()) as admin:
        made = await created(admin, channels=["slack", "email"])
        path = f"/api/v1/alerts/{made['id']}"
        for _ in range(3):
            assert (await admin.post(path + "/test", json={})).status_code == 202
        every = [d["id"] for d in (await admin.get(path + "/deliveries")).json()["data"]]
        assert len(every) == 6
        page = (await admin.get(path + "/deliveries?limit=2&offset=3")).json()["data"]
        assert [d["id"] for d in page] == every[3:5]
        assert set(page[0]) == {
            "id", "alert_id", "type", "status", "attempts", "http_status", "error", "created_at",
            "next_attempt_at", "finished_at",
        }  # fmt: skip
        bad = await admin.get(path + "/deliveries?limit=x")
        assert (bad.status_code, bad.json()["error"]["field"]) == (400, "limit")
