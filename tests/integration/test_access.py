"""Every route with every kind of key (log-service.md §1.4, §1.5), on a server as an operator runs it.

The table below names every route of every application that the backend is built of; one that is missing in it
fails the test, and so does one that is in no application.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import pytest
from starlette.applications import Starlette

from apps.backend.app import build
from apps.backend.cors import is_shared
from tests.conftest import Databases
from tests.eventually import eventually
from tests.integration.asking import batch
from tests.integration.conftest import Deployer, Deployment
from tests.integration.keyed import ADMIN, KEYS, READ, SECRET, WRITE, bearer, made_key, speaking
from tracehub.runtime.settings import Settings
from tracehub_sdk import AsyncProducer

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
    ("GET", "/login"): Rule(OPEN),
    ("GET", "/login.css"): Rule(OPEN),
    ("POST", "/login"): Rule(OPEN, mine=401, others=401),
    ("POST", "/logout"): Rule(OPEN, mine=303, others=303),
    ("GET", "/api/v1/logs"): Rule(READS),
    ("POST", "/api/v1/logs/query"): Rule(READS, body={}),
    ("GET", "/api/v1/logs/{id}"): Rule(READS, "/api/v1/logs/" + ENTRY, others=404),
    ("GET", "/api/v1/logs/{id}/around"): Rule(READS, f"/api/v1/logs/{ENTRY}/around", others=404),
    ("GET", "/api/v1/keys"): Rule(ADMINS),
    ("POST", "/api/v1/keys"): Rule(ADMINS, body={"name": "walked", "scopes": ["read"]}, mine=201, others=201),
    ("DELETE", "/api/v1/keys/{id}"): Rule(ADMINS, "/api/v1/keys/" + ENTRY, {}, 404, 404),
}
ADDRESSED = {("GET", "/api/v1/logs/{id}"), ("GET", "/api/v1/logs/{id}/around")}


@pytest.fixture(scope="module")
def closed(
    databases: Databases, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A backend and a worker that ask for keys."""
    deployer = Deployer(databases, migrated_template, tmp_path_factory.mktemp("closed"))
    with deployer.stack:
        deployment = deployer.make(**KEYS)
        deployment.both()
        yield deployment


@pytest.fixture
async def entry_id(closed: Deployment) -> AsyncIterator[str]:
    """An entry of the default tenant's `secret-svc`, which also has a gap and a dead letter."""
    async with speaking(closed, WRITE) as writer:
        first = batch("secret-svc", 1, 3)
        first["batch"][0]["message"] = SECRET
        assert (await writer.post("/ingest", json=first)).status_code == 200
        other = batch("secret-svc", 3)
        other["batch"][0]["message"] = "a conflict with " + SECRET
        assert (await writer.post("/ingest", json=other)).status_code == 200
    async with speaking(closed, READ) as reader:
        found = (await reader.get("/api/v1/logs", params={"search": SECRET})).json()["data"]["entries"]
        assert (await reader.get("/dead-letters")).json()["total"]
        assert (await reader.get("/replay")).json()["total"]
        yield found[0]["id"]


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
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    ]
    assert sorted(there) == sorted(ROUTES)


async def asked(
    client: httpx.AsyncClient, route: tuple[str, str], entry: str, **headers: str
) -> httpx.Response:
    rule = ROUTES[route]
    path = (rule.path or route[1]).replace(ENTRY, entry if route in ADDRESSED else ENTRY)
    body = {} if rule.body is None else {"json": rule.body}
    return await client.request(route[0], path, headers=headers, **body)


def expected(rule: Rule, key: str) -> int:
    """The status for one of: nothing, wrong, write, read, admin, foreign."""
    if rule.scope == OPEN:
        return rule.mine
    if key in ("nothing", "wrong"):
        return 401
    allowed = {READS: "read", WRITES: "write", EITHER: "read write", ADMINS: ""}[rule.scope]
    if key == "foreign":
        return rule.others
    return rule.mine if key == "admin" or key in allowed.split() else 403


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
                    error = {"code": "unauthorized", "message": "Missing or invalid API key"}
                    assert answer.json()["error"] == error
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


async def test_a_tenant_sees_its_own_only(closed: Deployment, entry_id: str) -> None:
    """Both tenants have a service of the same name, with the same numbers."""
    key = (await made_key(closed, "write", "read", tenant_id="team-b"))["key"]
    async with speaking(closed, key) as theirs, speaking(closed, READ) as ours:
        mine = batch("secret-svc", 1, 2)
        mine["batch"][0]["message"] = "words of team b"
        told = (await theirs.post("/ingest", json=mine)).json()
        assert (told["ackTill"], told["accepted"], told["duplicates"]) == (2, 2, 0)
        found = (await theirs.get("/api/v1/logs")).json()["data"]
        assert found["total_count"] == 2
        tenants = {entry["tenant_id"] for entry in found["entries"]}
        assert tenants == {(await made_key(closed, "read", tenant_id="team-b"))["tenant_id"]}
        assert [s["ackTill"] for s in (await theirs.get("/services")).json()] == [2]
        snapshot = (await theirs.get("/metrics/snapshot")).json()
        assert snapshot["totals"] == {
            "received": 2, "stored": 2, "duplicates": 0, "conflicts": 0, "lost": 0, "inFlight": 0,
        }  # fmt: skip
        assert [s["service"] for s in snapshot["services"]] == ["secret-svc"]
        assert (snapshot["queue"]["dead"], sum(snapshot["replays"].values())) == (0, 0)
        proof = (await theirs.get("/proof")).json()
        assert (proof["totals"]["stored"], len(proof["streams"])) == (2, 1)
        assert (await theirs.get("/replay")).json()["total"] == 0
        assert (await theirs.get("/dead-letters")).json()["total"] == 0
        gauges = (await theirs.get("/metrics")).text
        assert "tracehub_stored_entries 2.0" in gauges
        assert "tracehub_received_entries_total" not in gauges
        assert "tracehub_received_entries_total" in (await ours.get("/metrics")).text
        assert (await ours.get("/api/v1/logs", params={"search": "team b"})).json()["data"][
            "total_count"
        ] == 0
        same = await ours.get("/api/v1/logs", headers={"X-Tenant-ID": "team-b"})
        assert same.json()["data"]["total_count"] == 2


async def test_numbers_of_others_letters_and_replays_are_nobodys(closed: Deployment, entry_id: str) -> None:
    foreign = (await made_key(closed, "admin", tenant_id="team-c"))["key"]
    async with speaking(closed, foreign) as theirs, speaking(closed, READ) as ours:
        letter = (await ours.get("/dead-letters")).json()["deadLetters"][0]["id"]
        replay = (await ours.get("/replay")).json()["replays"][0]["id"]
        deleted = await theirs.request("DELETE", f"/dead-letters/{letter}", json={})
        retried = await theirs.post(f"/dead-letters/{letter}/retry", json={})
        abandoned = await theirs.post(f"/replay/{replay}/abandon", json={})
        assert [a.status_code for a in (deleted, retried, abandoned)] == [404, 404, 404]
        assert (await ours.get("/dead-letters")).json()["deadLetters"][0]["id"] == letter


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("/services", len),
        ("/api/v1/logs", lambda told: told["data"]["total_count"]),
        ("/proof", lambda told: told["totals"]["stored"]),
        ("/metrics/snapshot", lambda told: told["totals"]["stored"]),
        ("/replay", lambda told: told["total"] + 1),
        ("/dead-letters", lambda told: told["total"] + 1),
    ],
)
async def test_all_tenants_are_for_unbound_admins(
    closed: Deployment, entry_id: str, path: str, count: Any
) -> None:
    key = (await made_key(closed, "write", tenant_id="team-d"))["key"]
    async with speaking(closed, key) as writer:
        assert (await writer.post("/ingest", json=batch("of-d", 1))).status_code == 200
    bound = (await made_key(closed, "admin", tenant_id="team-d"))["key"]
    async with speaking(closed) as client:

        async def ask(key: str, query: str = "?all_tenants=true", **headers: str) -> httpx.Response:
            return await client.get(path + query, headers={**bearer(key), **headers})

        assert [(await ask(key)).status_code for key in (READ, bound)] == [403, 403]
        everything = count((await ask(ADMIN)).json())
        mine = count((await ask(ADMIN, "")).json())
        theirs = count((await ask(bound, "")).json())
        assert theirs == 1
        assert everything >= mine + theirs if path not in ("/replay", "/dead-letters") else everything >= mine


async def test_tenants_in_headers(closed: Deployment) -> None:
    bound = (await made_key(closed, "read", tenant_id="team-b"))["key"]
    async with speaking(closed) as client:

        async def ask(key: str, tenant: str, path: str = "/services") -> httpx.Response:
            return await client.get(path, headers={**bearer(key), "X-Tenant-ID": tenant})

        assert (await ask(bound, "team-b")).status_code == 200
        assert (await ask(bound, "team-a")).status_code == 403
        assert (await ask(READ, "a b")).status_code == 400
        assert (await ask(READ, "a b")).json()["error"]["code"] == "invalid_tenant_id"
        logs = await ask(READ, "a b", "/api/v1/logs")
        assert (logs.status_code, logs.json()["error"]["code"]) == (400, "invalid_tenant_id")
        assert (await ask(READ, "nobody-yet")).json() == []


async def test_a_key_of_a_service_knows_no_other(closed: Deployment, entry_id: str) -> None:
    key = (await made_key(closed, "write", "read", app_key="own-svc"))["key"]
    async with speaking(closed, key) as client:
        assert (await client.post("/ingest", json=batch("own-svc", 1, 3))).status_code == 200
        refused = await client.post("/ingest", json=batch("secret-svc", 9))
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        found = (await client.get("/api/v1/logs")).json()["data"]
        assert {e["service_name"] for e in found["entries"]} == {"own-svc"}
        other = await client.post("/api/v1/logs/query", json={"service_name": "secret-svc"})
        assert other.json()["data"]["entries"] == []
        for path in ("/ack/secret-svc", "/sequence/secret-svc", f"/api/v1/logs/{entry_id}"):
            assert (await client.get(path)).status_code == 404, path
        assert (await client.get("/ack/own-svc")).status_code == 200
        assert [s["service"] for s in (await client.get("/services")).json()] == ["own-svc"]
        for path in (
            "/proof",
            "/replay",
            "/dead-letters",
            "/metrics/snapshot",
            "/metrics/series",
            "/metrics",
        ):
            for query in ("", "?service=secret-svc"):
                answer = await client.get(path + query)
                assert answer.status_code == 200
                assert "secret-svc" not in answer.text, path
        assert (
            await client.get("/services", headers={"X-Api-Key": "x", "X-Api-Token": key})
        ).status_code == 200
    async with speaking(closed, X_Api_Key="secret-svc", X_Api_Token=key) as pretending:
        assert (await pretending.get("/services")).status_code == 401
    async with speaking(closed, X_Api_Key="own-svc", X_Api_Token=key) as proper:
        assert (await proper.get("/services")).status_code == 200


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


async def test_settings_are_changed_from_our_own_pages_in_json_only(closed: Deployment) -> None:
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
            answer = await client.options(path, headers={"Origin": "http://other.example"})
            assert (answer.status_code, answer.content) == (204, b"")
            plain = await client.request(method, path)
            for told in (answer, plain):
                assert ("access-control-allow-origin" in told.headers) is is_shared(path), path
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


async def test_requests_at_once_see_their_own_tenants(closed: Deployment) -> None:
    """Nothing that is remembered for one is given to another."""
    names = [f"crowd-{n}" for n in range(8)]
    keys = [(await made_key(closed, "write", "read", tenant_id=name))["key"] for name in names]

    async def live(name: str, key: str) -> None:
        async with speaking(closed, key) as client:
            for number in range(1, 6):
                assert (await client.post("/ingest", json=batch(name, number))).status_code == 200
                snapshot = (await client.get("/metrics/snapshot")).json()
                assert {s["service"] for s in snapshot["services"]} <= {name}
                assert [s["service"] for s in (await client.get("/services")).json()] == [name]

    await asyncio.gather(*map(live, names, keys))

    async def series_are_theirs() -> bool:
        async with speaking(closed, keys[0]) as client:
            told = (await client.get("/metrics/series")).json()
        assert set(told["logs"]) == {None}
        return any(rate > 0 for rate in told["stored"])

    await eventually(series_are_theirs, 10)


async def test_an_admin_of_a_service_changes_no_other(closed: Deployment, entry_id: str) -> None:
    key = (await made_key(closed, "admin", app_key="own-svc"))["key"]
    async with speaking(closed, key) as client, speaking(closed, READ) as reader:
        letter = (await reader.get("/dead-letters?service=secret-svc")).json()["deadLetters"][0]["id"]
        replay = (await reader.get("/replay?service=secret-svc")).json()["replays"][0]["id"]
        answers = [
            await client.post("/replay", json={"service": "secret-svc", "from": 1, "to": 1}),
            await client.post(f"/replay/{replay}/abandon", json={}),
            await client.post(f"/dead-letters/{letter}/retry", json={}),
            await client.request("DELETE", f"/dead-letters/{letter}", json={}),
        ]
        assert [answer.status_code for answer in answers] == [404] * 4
        fault = await client.post("/metrics/control", json={"action": "reset"})
        assert fault.status_code == 403
        assert letter in [row["id"] for row in (await reader.get("/dead-letters")).json()["deadLetters"]]


async def test_numberings_of_the_server_are_shown_to_admins_only(closed: Deployment, service: str) -> None:
    connection = await asyncpg.connect(closed.database, ssl=False)
    await connection.execute(
        "insert into ack_state (tenant_id, numbering, epoch, received) values ($1, $2, 0, '{[1,3)}')",
        "00000000-0000-0000-0000-000000000000", f"@{service}",
    )  # fmt: skip
    await connection.close()
    for key, is_shown in ((READ, False), (ADMIN, True)):
        async with speaking(closed, key) as client:
            assert (f"@{service}" in (await client.get("/proof")).text) is is_shown
            for path in ("/ack", "/sequence"):
                assert ((await client.get(f"{path}/@{service}")).status_code == 200) is is_shown
            assert f"@{service}" not in (await client.get("/services")).text


async def test_the_library_shows_the_key_of_the_environment(
    closed: Deployment, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the server finds the buffer of a tenant that goes by a name."""
    bound = await made_key(closed, "write", "read", tenant_id="team-lib")
    monkeypatch.setenv("TRACEHUB_WRITE_KEY", bound["key"])
    async with AsyncProducer(service, closed.buffers_url, closed.url, tenant="team-lib") as producer:
        for number in range(5):
            assert await producer.append({"message": f"line {number}"})
        assert await producer.flush(10)
    async with speaking(closed, bound["key"]) as client:
        streams = (await client.get("/proof", params={"service": service})).json()["streams"]
        assert [(s["stored"], s["buffer"], s["balanced"]) for s in streams] == [(5, "ok", True)]
