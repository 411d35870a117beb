"""What belongs to a tenant, or to a service, and who sees it (log-service.md §1.5)."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import httpx
import pytest

from tests.eventually import eventually
from tests.integration.asking import batch
from tests.integration.conftest import Deployment
from tests.integration.keyed import ADMIN, READ, WRITE, bearer, made_key, speaking
from tracehub_sdk import AsyncProducer


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
        ("/api/v1/logs/stats", lambda told: told["data"]["total_count"]),
        ("/api/v1/logs/services", lambda told: len(told["data"])),
        ("/api/v1/logs/storage", lambda told: told["data"]["row_count"]),
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


async def test_an_answer_about_all_tenants_says_what_they_all_lack(closed: Deployment) -> None:
    key = (await made_key(closed, "write", tenant_id="team-holes"))["key"]
    async with speaking(closed, key) as writer:
        for seq in (1, 5):
            assert (await writer.post("/ingest", json=batch("with-holes", seq))).status_code == 200
    async with speaking(closed, ADMIN) as client:
        for path in ("/api/v1/logs", "/api/v1/logs/stats"):
            meta = (await client.get(f"{path}?all_tenants=true&service=with-holes")).json()["meta"]
            assert meta["completeness"]["missing"] == 3
            assert (await client.get(f"{path}?service=with-holes")).json()["meta"]["completeness"]["complete"]


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
            assert (f"@{service}" in (await client.get(f"/proof?service=@{service}")).text) is is_shown
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


async def test_what_bodies_say_of_tenants(closed: Deployment, service: str) -> None:
    """Counted only where neither the key nor the header says it."""
    bound = await made_key(closed, "write", "read", tenant_id="team-own", app_key=service)
    own, named = bound["tenant_id"], (await made_key(closed, "read", tenant_id="team-named"))["tenant_id"]
    entry = {"service_name": service, "message": "m", "tenant_id": "team-named"}
    async with speaking(closed) as client:

        async def stored(key: str, body: dict[str, Any], **headers: str) -> Any:
            answer = await client.post("/api/v1/logs", json=body, headers={**bearer(key), **headers})
            assert answer.status_code == 201, answer.text
            return answer.json()["data"]

        assert (await stored(WRITE, entry))["tenant_id"] == named
        told = await stored(bound["key"], {**entry, "service_name": "another"})
        assert (told["tenant_id"], told["service_name"]) == (own, service)
        header = await stored(WRITE, entry, **{"X-Tenant-ID": "team-own"})
        assert header["tenant_id"] == own
        pair = {"X-Api-Key": "by-pair", "X-Api-Token": WRITE, "Authorization": ""}
        assert (await stored(WRITE, entry, **pair))["service_name"] == "by-pair"
        bad = await client.post("/api/v1/logs", json={**entry, "tenant_id": "a b"}, headers=bearer(WRITE))
        assert (bad.status_code, bad.json()["error"]["code"]) == (400, "invalid_tenant_id")
        seen = (await client.get("/api/v1/logs/services", headers=bearer(bound["key"]))).json()["data"]
        assert seen == [service]
