"""Every route with every kind of key (log-service.md §1.4, §1.5), on a server as an operator runs it.

The table below names every route of every application that the backend is built of; one that is missing in it
fails the test, and so does one that is in no application.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import pytest
from starlette.applications import Starlette

from apps.backend.app import build
from apps.backend.cors import SETTINGS, is_shared
from tests.integration.asking import batch
from tests.integration.conftest import Deployment
from tests.integration.keyed import ADMIN, READ, SECRET, WRITE, bearer, made_key, speaking
from tracehub.runtime.settings import Settings

OPEN, READS, WRITES, EITHER, ADMINS = "open", "read", "write", "read or write", "admin"
ENTRY = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may use a route, what to send, and what those get who may: of the tenant that has something, and of
    another one."""

    scope: str
    path: str = ""
    body: Any = None
    mine: int = 200
    others: int = 200
    refused: int = 403  # what a key of another scope gets


UNAUTHORIZED = ("Missing or invalid API key", '{"error":"Unauthorized"')
LOGSTREAM_ENTRY = {"app_key": "walked", "app_id": "i", "message": "m"}
ROUTES: dict[tuple[str, str], Rule] = {
    ("POST", "/ingest"): Rule(WRITES, body=batch("walked", 1)),
    ("GET", "/ack/{service:path}"): Rule(EITHER, "/ack/secret-svc", others=404),
    ("GET", "/sequence/{service:path}"): Rule(READS, "/sequence/secret-svc", others=404),
    ("GET", "/services"): Rule(READS),
    ("GET", "/proof"): Rule(READS),
    ("GET", "/replay"): Rule(READS),
    ("POST", "/replay"): Rule(
        ADMINS, body={"service": "secret-svc", "from": 1, "to": 1}, mine=202, others=404
    ),
    ("POST", "/replay/{id:int}/abandon"): Rule(ADMINS, "/replay/999999/abandon", {}, 404, 404),
    ("GET", "/dead-letters"): Rule(READS),
    ("POST", "/dead-letters/{id:int}/retry"): Rule(ADMINS, "/dead-letters/999999/retry", {}, 404, 404),
    ("DELETE", "/dead-letters/{id:int}"): Rule(ADMINS, "/dead-letters/999999", {}, 404, 404),
    ("GET", "/health"): Rule(OPEN),
    ("GET", "/ready"): Rule(OPEN),
    ("GET", "/live"): Rule(OPEN),
    ("GET", "/metrics"): Rule(READS),
    ("GET", "/metrics/snapshot"): Rule(READS),
    ("GET", "/metrics/series"): Rule(READS),
    ("GET", "/metrics/control"): Rule(READS),
    ("POST", "/metrics/control"): Rule(ADMINS, body={"action": "delay_ack", "seconds": 1}, others=403),
    ("GET", "/openapi.json"): Rule(OPEN),
    ("GET", "/openapi.yaml"): Rule(OPEN),
    ("GET", "/docs"): Rule(OPEN),
    ("GET", "/docs.css"): Rule(OPEN),
    ("GET", "/swagger/"): Rule(OPEN),
    ("GET", "/login"): Rule(OPEN),
    ("GET", "/login.css"): Rule(OPEN),
    ("POST", "/login"): Rule(OPEN, mine=401, others=401),
    ("POST", "/logout"): Rule(OPEN, mine=303, others=303),
    ("GET", "/whoami"): Rule(READS),
    ("GET", "/api/v1/logs"): Rule(READS),
    ("POST", "/api/v1/logs"): Rule(
        WRITES, body={"service_name": "walked", "message": "m"}, mine=201, others=201
    ),
    ("POST", "/api/v1/logs/batch"): Rule(WRITES, body={"entries": []}, mine=201, others=201),
    ("GET", "/api/v1/logs/trace/{trace_id:path}"): Rule(READS, "/api/v1/logs/trace/t"),
    ("GET", "/api/v1/logs/request/{request_id:path}"): Rule(READS, "/api/v1/logs/request/r"),
    ("GET", "/api/v1/logs/stats"): Rule(READS),
    ("POST", "/api/v1/logs/aggregate"): Rule(READS, body={"group_by": "service_name"}),
    ("GET", "/api/v1/logs/services"): Rule(READS),
    ("GET", "/api/v1/logs/storage"): Rule(READS),
    ("GET", "/api/v1/logs/stream"): Rule(READS),
    ("POST", "/api/v1/logs/query"): Rule(READS, body={}),
    ("GET", "/api/v1/logs/{id}"): Rule(READS, "/api/v1/logs/" + ENTRY, others=404),
    ("GET", "/api/v1/logs/{id}/around"): Rule(READS, f"/api/v1/logs/{ENTRY}/around", others=404),
    ("GET", "/api/v1/keys"): Rule(ADMINS),
    ("POST", "/api/v1/keys"): Rule(ADMINS, body={"name": "walked", "scopes": ["read"]}, mine=201, others=201),
    ("DELETE", "/api/v1/keys/{id}"): Rule(ADMINS, "/api/v1/keys/" + ENTRY, {}, 404, 404),
    ("GET", "/api/v1/retention"): Rule(READS),
    ("POST", "/api/v1/retention"): Rule(ADMINS, body={"retention_days": 0}, mine=400, others=400),
    ("GET", "/api/v1/retention/tenant/{tenant_id}"): Rule(
        READS, f"/api/v1/retention/tenant/{ENTRY}", mine=404, others=404
    ),
    ("PUT", "/api/v1/retention/{id}"): Rule(ADMINS, f"/api/v1/retention/{ENTRY}", {}, 404, 404),
    ("DELETE", "/api/v1/retention/{id}"): Rule(ADMINS, f"/api/v1/retention/{ENTRY}", {}, 204, 204),
    ("POST", "/api/v1/retention/run"): Rule(
        ADMINS, "/api/v1/retention/run?dry_run=true", {}, mine=202, others=202
    ),
    ("GET", "/api/v1/retention/runs"): Rule(ADMINS),
    ("GET", "/api/v1/alerts"): Rule(READS),
    ("POST", "/api/v1/alerts"): Rule(
        ADMINS, body={"name": "walked", "filter": {}, "threshold": 10**9}, mine=201, others=201
    ),
    ("GET", "/api/v1/alerts/{id}"): Rule(READS, "/api/v1/alerts/" + ENTRY, None, 404, 404),
    ("PUT", "/api/v1/alerts/{id}"): Rule(ADMINS, "/api/v1/alerts/" + ENTRY, {}, 404, 404),
    ("DELETE", "/api/v1/alerts/{id}"): Rule(ADMINS, "/api/v1/alerts/" + ENTRY, {}, 204, 204),
    ("POST", "/api/v1/alerts/{id}/enable"): Rule(ADMINS, f"/api/v1/alerts/{ENTRY}/enable", {}, 404, 404),
    ("POST", "/api/v1/alerts/{id}/disable"): Rule(ADMINS, f"/api/v1/alerts/{ENTRY}/disable", {}, 404, 404),
    ("POST", "/api/v1/alerts/{id}/test"): Rule(ADMINS, f"/api/v1/alerts/{ENTRY}/test", {}, 404, 404),
    ("GET", "/api/v1/alerts/{id}/deliveries"): Rule(
        READS, f"/api/v1/alerts/{ENTRY}/deliveries", None, 404, 404
    ),
    ("POST", "/v1/logs"): Rule(WRITES, body={"resourceLogs": []}),
    ("POST", "/loki/api/v1/push"): Rule(WRITES, body={"streams": []}, mine=204, others=204),
    ("GET", "/api/health"): Rule(OPEN),
    ("POST", "/api/logs"): Rule(WRITES, body=LOGSTREAM_ENTRY, mine=201, others=201, refused=401),
    ("GET", "/api/logs"): Rule(READS, refused=401),
    ("GET", "/api/logs/{id:path}"): Rule(READS, f"/api/logs/{ENTRY}", others=404, refused=401),
    ("OPTIONS", "/{path:path}"): Rule(OPEN, "/api/logs", mine=204, others=204),
}
ADDRESSED = {
    ("GET", "/api/logs/{id:path}"),
    ("GET", "/api/v1/logs/{id}"),
    ("GET", "/api/v1/logs/{id}/around"),
}


def built(monkeypatch: pytest.MonkeyPatch) -> list[Starlette]:
    """Every Starlette application that a backend is made of."""
    found: list[Starlette] = []
    begin = Starlette.__init__

    def note(self: Starlette, *args: Any, **more: Any) -> None:
        found.append(self)
        begin(self, *args, **more)

    monkeypatch.setattr(Starlette, "__init__", note)
    build(Settings())
    return found


async def test_the_table_names_every_route(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [
        (method, route.path)
        for application in built(monkeypatch)
        for route in application.routes
        for method in getattr(route, "methods", set()) - {"HEAD"}  # sockets have none
    ]
    assert sorted(there) == sorted(ROUTES)


async def asked(
    client: httpx.AsyncClient, route: tuple[str, str], entry: str, **headers: str
) -> httpx.Response:
    rule = ROUTES[route]
    path = (rule.path or route[1]).replace(ENTRY, entry if route in ADDRESSED else ENTRY)
    body = {} if rule.body is None else {"json": rule.body}
    if not path.endswith("/stream"):
        return await client.request(route[0], path, headers=headers, **body)
    async with client.stream(
        route[0], path, headers=headers
    ) as streamed:  # it ends with the key, not by itself
        if streamed.status_code != 200:
            await streamed.aread()
            return streamed
        return httpx.Response(200)


def expected(rule: Rule, key: str) -> int:
    """The status for one of: nothing, wrong, write, read, admin, foreign."""
    if rule.scope == OPEN:
        return rule.mine
    if key in ("nothing", "wrong"):
        return 401
    allowed = {READS: "read", WRITES: "write", EITHER: "read write", ADMINS: ""}[rule.scope]
    if key == "foreign":
        return rule.others
    return rule.mine if key == "admin" or key in allowed.split() else rule.refused


async def test_every_route_with_every_kind_of_key(closed: Deployment, entry_id: str) -> None:
    foreign = (await made_key(closed, "admin", tenant_id="team-foreign"))["key"]
    keys = {
        "nothing": None, "wrong": "th_" + "x" * 40, "write": WRITE, "read": READ, "admin": ADMIN, "foreign": foreign,
    }  # fmt: skip
    differs = []
    for name, key in keys.items():
        async with speaking(closed, key) as client:
            for route, rule in ROUTES.items():
                answer = await asked(client, route, entry_id)
                if answer.status_code != expected(rule, name):
                    differs.append((name, *route, answer.status_code, answer.text[:100]))
                if name == "foreign":
                    leaked = SECRET in answer.text or "secret-svc" in answer.text
                    assert not leaked, (route, answer.text)
                if answer.status_code == 401 and rule.scope != OPEN:
                    assert any(text in answer.text for text in UNAUTHORIZED)
                    assert answer.headers["www-authenticate"] == "Bearer"
    assert differs == []


async def test_other_ways_to_show_a_key(closed: Deployment) -> None:
    pair = {"X-Api-Key": "any", "X-Api-Token": READ}
    async with speaking(closed) as client:
        assert (await client.get("/services", headers=pair)).status_code == 200
        assert (
            await client.get("/services", headers={"authorization": f"bEARER  {READ}"})
        ).status_code == 200
        assert (await client.get("/services", headers={**pair, **bearer("wrong")})).status_code == 401
        assert (await client.get("/services", headers={"X-Api-Token": READ})).status_code == 401
        assert (await client.get(f"/services?token={READ}")).status_code == 401
        assert (await client.get("/services", auth=("any", READ))).status_code == 401
        assert (
            await client.post("/ingest", json=batch("a", 1), headers={**pair, "X-Api-Token": WRITE})
        ).status_code == 403


async def test_a_pair_names_a_service_that_could_be_one(closed: Deployment) -> None:
    long, name = "x" * 101, "y" * 100
    body = {"message": "m", "app_key": "k", "app_id": "i"}
    async with speaking(closed) as client:
        for path in ("/api/v1/logs", "/api/logs"):
            answer = await client.post(path, json=body, headers={"X-Api-Key": long, "X-Api-Token": WRITE})
            assert answer.status_code == 401, answer.text
            answer = await client.post(path, json=body, headers={"X-Api-Key": name, "X-Api-Token": WRITE})
            assert answer.status_code == 201, answer.text


async def test_a_key_of_one_service_is_told_its_part_of_the_disk(closed: Deployment) -> None:
    tenant = f"parts-{uuid.uuid4().hex[:8]}"
    mine = (await made_key(closed, "read", tenant_id=tenant, app_key="shop"))["key"]
    every = (await made_key(closed, "admin", tenant_id=tenant))["key"]
    async with speaking(closed) as client:
        for service, many in (("other", 50), ("shop", 3)):
            entries = [{"service_name": service, "message": "m"}] * many
            answer = await client.post("/api/v1/logs/batch", json={"entries": entries}, headers=bearer(every))
            assert answer.status_code == 201

        async def share(key: str) -> dict[str, Any]:
            told: dict[str, Any] = (await client.get("/api/v1/logs/storage", headers=bearer(key))).json()[
                "data"
            ]
            return told

        part, whole = await share(mine), await share(every)
        assert (part["row_count"], whole["row_count"]) == (3, 53)
        assert 0 < part["size_bytes"] < whole["size_bytes"] / 10
        assert whole["size_mb"] == whole["size_bytes"] / 2**20


async def test_doors_of_a_key(closed: Deployment) -> None:
    browser = (await made_key(closed, "write", doors=["errors", "sentry"]))["key"]
    ingest = (await made_key(closed, "write", "read", doors=["ingest"]))["key"]
    async with speaking(closed) as client:
        body = batch("doors", 1)
        assert (await client.post("/ingest", json=body, headers=bearer(browser))).status_code == 403
        assert (await client.post("/ingest", json=body, headers=bearer(ingest))).status_code == 200
        assert (await client.get("/services", headers=bearer(ingest))).status_code == 200
        assert (await client.get("/api/v1/logs", headers=bearer(ingest))).status_code == 403


async def test_a_key_over_its_rate_is_told_when_to_come_again(closed: Deployment) -> None:
    key = (await made_key(closed, "write", rate=2))["key"]
    async with speaking(closed, key) as client:
        assert (await client.post("/ingest", json=batch("slow", *range(1, 11)))).status_code == 200
        refused = await client.post("/ingest", json=batch("slow", *range(11, 21)))
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert 3 <= int(refused.headers["retry-after"]) <= 5
        async with speaking(closed, READ) as reader:
            assert (await reader.get("/ack/slow")).json()["highestSeen"] == 10
    other = (await made_key(closed, "write", rate=2))["key"]
    async with speaking(closed, other) as client:
        ten = {"entries": [{"service_name": "slow-too", "message": "m"}] * 10}
        assert (await client.post("/api/v1/logs/batch", json=ten)).status_code == 201
        again = await client.post("/api/v1/logs/batch", json=ten)
        assert (again.status_code, again.json()["error"]["code"]) == (429, "overloaded")
        assert again.headers["retry-after"].isdigit()


async def test_keys_are_shown_once_and_ended(closed: Deployment) -> None:
    made = await made_key(
        closed,
        "read",
        tenant_id="team-k",
        app_key="svc",
        doors=["logs"],
        rate=5,
        expires_at="2999-01-01T00:00:00Z",
    )
    assert made["key"].startswith("th_")
    async with speaking(closed, ADMIN) as admin:
        listed = {k["id"]: k for k in (await admin.get("/api/v1/keys")).json()["data"]}
        assert listed[made["id"]] == {name: value for name, value in made.items() if name != "key"}
        assert made["key"] not in json.dumps(listed)
        for _ in range(2):
            assert (await admin.request("DELETE", f"/api/v1/keys/{made['id']}", json={})).status_code == 204
        assert made["id"] not in (await admin.get("/api/v1/keys")).text
        bad = await admin.request("DELETE", "/api/v1/keys/five", json={})
        assert (bad.status_code, bad.json()["error"]["code"]) == (400, "invalid_id")
        for body, code in (
            ({"name": "x"}, "invalid_request"),
            ({"name": "x", "scopes": ["read"], "tenant_id": "a b"}, "invalid_tenant_id"),
        ):
            refused = await admin.post("/api/v1/keys", json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, code)
            assert refused.json()["success"] is False
    connection = await asyncpg.connect(closed.database, ssl=False)
    kept = await connection.fetch("select * from api_keys")
    await connection.close()
    assert made["key"] not in repr(kept)


async def test_nobody_gives_away_more_than_they_have(closed: Deployment) -> None:
    bound = await made_key(closed, "admin", tenant_id="team-e", app_key="svc-e", doors=["logs"])
    other = await made_key(closed, "read", tenant_id="team-f")
    async with speaking(closed, bound["key"]) as client:
        made = await client.post(
            "/api/v1/keys", json={"name": "n", "scopes": ["admin"], "tenant_id": "team-f"}
        )
        told = made.json()["data"]
        assert (told["tenant_id"], told["app_key"], told["doors"]) == (bound["tenant_id"], "svc-e", ["logs"])
        for more in ({"app_key": "another"}, {"doors": ["ingest"]}):
            refused = await client.post("/api/v1/keys", json={"name": "n", "scopes": ["read"], **more})
            assert refused.status_code == 403, more
        listed = (await client.get("/api/v1/keys")).json()["data"]
        assert {key["id"] for key in listed} == {bound["id"], told["id"]}
        assert (await client.request("DELETE", f"/api/v1/keys/{other['id']}", json={})).status_code == 404
    async with speaking(closed, other["key"]) as client:
        assert (await client.get("/services")).status_code == 200


async def test_settings_are_changed_from_our_own_pages_in_json_only(
    closed: Deployment, entry_id: str
) -> None:
    async with speaking(closed, ADMIN) as admin:
        for route, rule in ROUTES.items():
            if rule.scope != ADMINS or route[0] == "GET":
                continue
            foreign = await asked(admin, route, ENTRY, Origin="http://evil.example")
            assert foreign.status_code == 403, route
            text = await admin.request(
                route[0], rule.path or route[1], content=b"{}", headers={"content-type": "text/plain"}
            )
            assert text.status_code == 415, route
            named = await asked(admin, route, ENTRY, Host="tracehub.example")
            assert named.status_code == rule.mine, route  # with a key the Host is free


async def test_other_sites_may_call_the_api_and_no_settings(closed: Deployment) -> None:
    async with speaking(closed) as client:
        for (method, template), rule in ROUTES.items():
            path = rule.path or template
            if not path.startswith("/api/v1/") and path.startswith("/api/"):
                continue  # the logstream door has words of its own
            answer = await client.options(path, headers={"Origin": "http://other.example"})
            assert (answer.status_code, answer.content) == (204, b"")
            plain = await asked(client, (method, template), ENTRY)
            assert ("access-control-allow-origin" in plain.headers) is is_shared(path), path
            is_bare = any(f"{path}/".startswith(f"{place}/") for place in SETTINGS)
            assert ("access-control-allow-origin" in answer.headers) is not is_bare, path
            for told in (answer, plain):
                assert "access-control-allow-credentials" not in told.headers
                assert told.headers["x-content-type-options"] == "nosniff"
        ingest = await client.options("/ingest")
        assert ingest.headers["access-control-allow-origin"] == "*"
        assert "authorization" in ingest.headers["access-control-allow-headers"].lower()
        for path in ("/api/v1/keys", "/replay", "/dead-letters", "/metrics/control", "/login", "/"):
            assert not is_shared(path)
        assert is_shared("/api/v1/logs")
        assert is_shared("/services")
        assert not is_shared("/servicesx")
