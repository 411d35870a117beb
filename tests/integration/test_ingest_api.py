"""The HTTP routes of ingest.md §2, §4, §8 and §9: every key of every answer, and who may call what."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import asyncpg
import httpx
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from apps.backend.metrics import TABLE
from tests.eventually import eventually
from tests.integration.asking import assert_refused, batch
from tests.integration.conftest import Deployment
from tracehub.runtime.embedded.ports import free_port
from tracehub.storage.redis import keys

REPLY_KEYS = {
    "batchId", "epoch", "ackTill", "missing", "status", "replay", "missingCount", "missingRanges",
    "highestSeen", "accepted", "duplicates", "conflicts", "queued",
}  # fmt: skip
ACK_KEYS = {
    "service", "epoch", "ackTill", "highestSeen", "missing", "missingRanges", "missingCount", "lostCount",
    "inFlight", "status",
}  # fmt: skip
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def send(client: httpx.AsyncClient, body: dict[str, Any], query: str = "") -> dict[str, Any]:
    answer = await client.post(f"/ingest{query}", json=body)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    assert set(told) == REPLY_KEYS
    counts = told["accepted"] + told["duplicates"] + told["conflicts"] + told["queued"]
    assert counts == len(body.get("batch") or ())
    return told


# ------------------------------------------------------------------------------------------------- ingest


async def test_worked_examples_of_the_contract(client: httpx.AsyncClient, service: str) -> None:
    steps: list[tuple[list[int], dict[str, Any]]] = [
        ([1, 2], {"ackTill": 2, "status": "ok", "accepted": 2, "highestSeen": 2}),
        ([5], {"ackTill": 2, "missing": [3, 4], "status": "partial", "replay": {"queued": 2},
               "missingCount": 2, "missingRanges": [[3, 4]], "highestSeen": 5, "accepted": 1}),
        ([3, 4], {"ackTill": 5, "status": "ok", "accepted": 2, "highestSeen": 5}),
        ([1, 2], {"ackTill": 5, "duplicates": 2, "accepted": 0, "highestSeen": 5}),
        ([8, 6, 7], {"ackTill": 8, "accepted": 3, "highestSeen": 8}),
        ([9, 9], {"ackTill": 9, "accepted": 1, "duplicates": 1, "highestSeen": 9}),
    ]  # fmt: skip
    nothing = {
        "epoch": 0, "missing": [], "status": "ok", "replay": {"queued": 0}, "missingCount": 0,
        "missingRanges": [], "duplicates": 0, "conflicts": 0, "queued": 0,
    }  # fmt: skip
    for number, (numbers, expected) in enumerate(steps):
        told = await send(client, batch(service, *numbers, batchId=f"b{number}"))
        assert told == {"batchId": f"b{number}", **nothing, **expected}, numbers


async def test_every_gap_of_a_long_stream_is_named(client: httpx.AsyncClient, service: str) -> None:
    held = [n for n in range(1, 1097) if n not in (1088, 1092)]
    first = await send(client, batch(service, *held))
    told = await send(client, batch(service, 1097, 1099))
    assert (told["ackTill"], told["missing"], told["status"]) == (1087, [1088, 1092, 1098], "partial")
    assert told["missingRanges"] == [[1088, 1088], [1092, 1092], [1098, 1098]]
    assert first["replay"]["queued"] + told["replay"]["queued"] == 3
    assert (told["missingCount"], told["highestSeen"]) == (3, 1099)


async def test_made_batch_ids_ascend_and_differ(client: httpx.AsyncClient, service: str) -> None:
    ids = [(await send(client, batch(service, n)))["batchId"] for n in range(1, 20)]
    assert len(set(ids)) == len(ids)
    assert [i[:10] for i in ids] == sorted(i[:10] for i in ids)


async def test_queued_acks_come_before_the_commit(client: httpx.AsyncClient, service: str) -> None:
    answer = await client.post("/ingest?acks=queued", json=batch(service, 1, 2))
    told = answer.json()
    assert (answer.status_code, set(told), told["queued"], told["status"]) == (202, REPLY_KEYS, 2, "queued")
    assert told["ackTill"] in (0, 2)

    async def is_stored() -> bool:
        return (await client.get(f"/ack/{service}")).json().get("ackTill") == 2

    await eventually(is_stored)


async def test_epochs_are_kept_apart(client: httpx.AsyncClient, service: str) -> None:
    assert (await send(client, batch(service, 1, 2)))["ackTill"] == 2
    other = await send(client, batch(service, 1, epoch=7))
    assert (other["epoch"], other["ackTill"], other["accepted"]) == (7, 1, 1)
    newest = (await client.get(f"/ack/{service}")).json()
    assert set(newest) == ACK_KEYS
    assert (newest["epoch"], newest["ackTill"]) == (7, 1)
    assert (await client.get(f"/ack/{service}?epoch=0")).json()["ackTill"] == 2


async def test_start_signs_off_what_is_below(client: httpx.AsyncClient, service: str) -> None:
    told = await send(client, batch(service, 101, 103, start=101))
    assert (told["ackTill"], told["missing"]) == (101, [102])
    ack = (await client.get(f"/ack/{service}")).json()
    assert (ack["lostCount"], ack["missingRanges"], ack["status"]) == (100, [[102, 102]], "partial")
    found = await send(client, batch(service, 50))
    assert (found["accepted"], found["ackTill"]) == (1, 101)
    assert (await client.get(f"/ack/{service}")).json()["lostCount"] == 99


async def test_conflicts_are_kept_and_shown(client: httpx.AsyncClient, service: str) -> None:
    await send(client, batch(service, 1, 2, 3))
    body = batch(service, 1, 2, 3, batchId="again")
    body["batch"][1]["message"] = "something else"
    told = await send(client, body)
    assert (told["accepted"], told["duplicates"], told["conflicts"], told["ackTill"]) == (0, 2, 1, 3)
    listed = (await client.get(f"/dead-letters?service={service}&reason=conflict")).json()
    assert set(listed) == {"total", "limit", "offset", "deadLetters"}
    (letter,) = listed["deadLetters"]
    assert set(letter) == {
        "id", "service", "epoch", "seq", "batchId", "reason", "error", "retries", "createdAt", "payload"
    }  # fmt: skip
    assert (letter["seq"], letter["reason"], letter["batchId"]) == (2, "conflict", "again")
    assert letter["payload"]["message"] == "something else"
    assert_refused(await client.post(f"/dead-letters/{letter['id']}/retry", json={}), 409, "conflict")
    assert (await client.get(f"/ack/{service}")).json()["lostCount"] == 0


async def test_resend_with_another_time_is_a_conflict(client: httpx.AsyncClient, service: str) -> None:
    def at(ts: str | None) -> dict[str, Any]:
        return {"service": service, "batch": [{"seq": 1, "message": "m", "ts": ts}]}

    await send(client, at("2026-01-01T00:00:00Z"))
    assert (await send(client, at(None)))["duplicates"] == 1
    assert (await send(client, at("2026-01-01T01:00:00+01:00")))["duplicates"] == 1
    assert (await send(client, at("2026-01-01T00:00:00.001Z")))["conflicts"] == 1


async def test_big_integers_and_bodies_survive_the_whole_way(client: httpx.AsyncClient, service: str) -> None:
    """Numbers of more than 64 bits must not stop a worker when it tells the viewers."""
    entries = [{"seq": n, "attrs": {"n": 10**40, "m": [-(2**63) - 1, 2**64]}} for n in range(1, 50)]
    assert (await send(client, {"service": service, "batch": entries}))["ackTill"] == 49
    assert (await send(client, batch(service, 50)))["ackTill"] == 50


# ------------------------------------------------------------------------------- services, replays, proof


async def test_services_tell_all_about_each(client: httpx.AsyncClient, service: str) -> None:
    body = batch(service, 1, 2, 4)
    body["batch"][0]["level"] = "error"
    await send(client, body)
    listed = {row["service"]: row for row in (await client.get("/services")).json()}
    row = listed[service]
    assert set(row) == ACK_KEYS | {"eps", "errorRate", "lagMs", "oldestGapMs", "lastSeen", "state"}
    assert row["state"] in ("gapping", "replaying")
    assert (row["ackTill"], row["missing"], row["inFlight"], row["lagMs"]) == (2, [3], 0, 0)
    assert TIME.fullmatch(row["lastSeen"])
    assert row["oldestGapMs"] >= 0

    async def shows_rates() -> bool:
        rows = {row["service"]: row for row in (await client.get("/services")).json()}
        return rows[service]["eps"] == 0.3 and rows[service]["errorRate"] == pytest.approx(1 / 3, abs=1e-3)

    await eventually(shows_rates)
    await send(client, batch(service, 3))
    rows = {row["service"]: row for row in (await client.get("/services")).json()}
    assert (rows[service]["state"], rows[service]["oldestGapMs"]) == ("ok", 0)


REPLAY_KEYS = {
    "id", "service", "epoch", "from", "to", "status", "requestedBy", "attempts", "found", "inserted",
    "createdAt", "completedAt", "latencyMs", "error",
}  # fmt: skip


async def replays(client: httpx.AsyncClient, query: str) -> list[dict[str, Any]]:
    listed = (await client.get(f"/replay?{query}")).json()
    assert set(listed) == {"total", "limit", "offset", "replays"}
    assert listed["total"] >= len(listed["replays"])
    assert all(set(row) == REPLAY_KEYS for row in listed["replays"])
    found: list[dict[str, Any]] = listed["replays"]
    return found


def fill_buffer(server: Deployment, service: str, *numbers: int, epoch: int = 0) -> None:
    """What a producer would have in its buffer."""
    with redis.Redis.from_url(server.buffers_url) as client:
        for n in numbers:
            member = json.dumps({"epoch": epoch, "seq": n, "level": "info", "message": f"message {n}"})
            client.zadd(keys.producer_buffer(keys.ZERO_TENANT, service), {member: n})
        meta = {"epoch": epoch, "next": max(numbers) + 1, "start": min(numbers)}
        client.hset(keys.producer_meta(keys.ZERO_TENANT, service), mapping=meta)


async def test_gaps_are_taken_out_of_the_producers_buffer(
    server: Deployment, client: httpx.AsyncClient, service: str
) -> None:
    fill_buffer(server, service, *range(1, 7))
    told = await send(client, batch(service, 1, 2, 6))
    assert (told["missing"], told["replay"]) == ([3, 4, 5], {"queued": 3})

    async def is_whole() -> bool:
        return (await client.get(f"/ack/{service}")).json()["ackTill"] == 6

    await eventually(is_whole, 10)

    async def is_written_down() -> bool:
        (row,) = await replays(client, f"service={service}")
        assert (row["from"], row["to"], row["requestedBy"], row["status"]) == (3, 5, "gap", "completed")
        assert (row["found"], row["inserted"], row["error"]) == (3, 3, None)
        assert TIME.fullmatch(row["createdAt"])
        assert TIME.fullmatch(row["completedAt"])
        assert row["latencyMs"] >= 0
        return row["attempts"] >= 1

    await eventually(is_written_down, 10)
    assert await replays(client, f"service={service}&status=pending") == []
    assert len(await replays(client, f"service={service}&status=completed&limit=1")) == 1
    assert await replays(client, f"service={service}&offset=1") == []


async def test_manual_replay_stores_what_nobody_asked_for(
    server: Deployment, client: httpx.AsyncClient, service: str
) -> None:
    await send(client, batch(service, 1))
    fill_buffer(server, service, 1, 2, 3)
    answer = await client.post("/replay", json={"service": service, "from": 1, "to": 3})
    assert answer.status_code == 202
    number = answer.json()["id"]

    async def is_done() -> bool:
        (row,) = await replays(client, f"service={service}")
        return (row["id"], row["requestedBy"], row["status"]) == (number, "manual", "completed")

    await eventually(is_done, 10)
    assert (await client.get(f"/ack/{service}")).json()["ackTill"] == 3


async def test_abandoned_replay_is_signed_off(
    client: httpx.AsyncClient, postgres: asyncpg.Connection, service: str
) -> None:
    await send(client, batch(service, 1, 4))
    (row,) = await replays(client, f"service={service}")
    answer = await client.post(f"/replay/{row['id']}/abandon", json={})
    assert (answer.status_code, answer.json()) == (200, {"id": row["id"], "lost": 2})
    ack = (await client.get(f"/ack/{service}")).json()
    assert (ack["ackTill"], ack["lostCount"]) == (4, 2)
    reason = await postgres.fetchval(
        "select reason from losses join ack_state using (stream_id) where numbering = $1", service
    )
    assert reason == "operator"
    assert_refused(await client.post(f"/replay/{row['id']}/abandon", json={}), 409, "conflict")
    assert (await replays(client, f"service={service}"))[0]["status"] == "lost"


async def test_replay_requests_are_validated(client: httpx.AsyncClient, service: str) -> None:
    await send(client, batch(service, 1))
    good: dict[str, Any] = {"service": service, "from": 1, "to": 2}
    for change, field in (
        ({"service": None}, "service"), ({"service": 7}, "service"), ({"service": ""}, "service"),
        ({"from": 0}, "from"), ({"from": "1"}, "from"), ({"from": True}, "from"), ({"from": 1.0}, "from"),
        ({"from": 3}, "from"), ({"to": None}, "to"), ({"to": 2**53}, "to"), ({"to": 1_000_001}, "to"),
        ({"epoch": -1}, "epoch"), ({"epoch": "x"}, "epoch"),
    ):  # fmt: skip
        assert_refused(await client.post("/replay", json={**good, **change}), 400, "invalid_field", field)
    assert_refused(await client.post("/replay", json={**good, "epoch": 9}), 404, "unknown_service")
    unknown = await client.post("/replay", json={**good, "service": "never-seen"})
    assert_refused(unknown, 404, "unknown_service")
    assert_refused(await client.post("/replay", json=[1]), 400, "invalid_field")
    headers = {"Content-Type": "application/json"}
    broken = await client.post("/replay", content=b"{", headers=headers)
    assert_refused(broken, 400, "invalid_json")
    assert_refused(await client.get("/replay?status=done"), 400, "invalid_field", "status")
    assert (await client.post("/replay", json={**good, "to": 1_000_000})).status_code == 202


PROOF_KEYS = {
    "service", "epoch", "ackTill", "produced", "stored", "buffered", "inFlight", "lost", "unaccounted",
    "duplicates", "conflicts", "expired", "void", "buffer", "balanced",
}  # fmt: skip


async def test_proof_balances_produced_with_stored_buffered_and_lost(
    server: Deployment, client: httpx.AsyncClient, service: str
) -> None:
    await send(client, batch(service, 1, 2, 3, epoch=1, lost=[[4, 5, "given up"]]))
    await send(client, batch(service, 1, epoch=2))
    fill_buffer(server, service, 1, 2, 3, epoch=2)
    proof = (await client.get(f"/proof?service={service}")).json()
    assert set(proof) == {"balanced", "totals", "streams", "epochBreaks"}
    assert proof["balanced"], proof
    older, newer = proof["streams"]
    assert set(older) == set(newer) == PROOF_KEYS
    assert (older["produced"], older["stored"], older["lost"], older["buffer"]) == (5, 3, 2, "other_epoch")
    assert (newer["produced"], newer["stored"], newer["buffered"], newer["buffer"]) == (3, 1, 2, "ok")
    assert proof["totals"]["produced"] == 8
    assert proof["epochBreaks"] == [{"service": service, "epoch": 1, "note": "tail unknown"}]
    await send(client, batch(f"{service}-x", 3))
    gapping = (await client.get(f"/proof?service={service}-x")).json()
    assert (gapping["balanced"], gapping["totals"]["unaccounted"]) == (False, 2)


# ------------------------------------------------------------------------------------------------ metrics


async def test_snapshot_has_every_field(client: httpx.AsyncClient, service: str) -> None:
    await send(client, batch(service, 1))
    told = (await client.get("/metrics/snapshot")).json()
    shape: dict[str, Any] = {
        "ts": str, "eps": float, "epsStored": float, "errorRate": float,
        "queue": {"logs": {"depth": int, "oldestMs": int}, "retry": {"depth": int, "oldestMs": int}, "dead": int},
        "ack": {"p50Ms": float, "p99Ms": float}, "services": list, "workers": list,
        "replays": {"pending": int, "running": int, "completed": int, "lost": int},
        "totals": dict.fromkeys(("received", "stored", "duplicates", "conflicts", "lost", "inFlight"), int),
        "faults": list, "live": {"sent": int, "skipped": int, "clients": int},
    }  # fmt: skip
    assert_shape(told, shape)
    assert TIME.fullmatch(told["ts"])
    for worker in told["workers"]:
        assert_shape(worker, {"id": str, "status": str, "lastHeartbeat": str, "jobsDone": int})
    assert "idle" in {w["status"] for w in told["workers"]} | {"idle"}
    assert any(w["status"] in ("idle", "busy") for w in told["workers"])
    assert_shape(told["services"][0], (await client.get("/services")).json()[0] | {}, types_only=True)


def assert_shape(value: dict[str, Any], shape: dict[str, Any], *, types_only: bool = False) -> None:
    assert set(value) == set(shape)
    for key, kind in () if types_only else shape.items():
        if isinstance(kind, dict):
            assert_shape(value[key], kind)
        elif kind is float:
            assert isinstance(value[key], (int, float)), key
        else:
            assert isinstance(value[key], kind), key


async def test_prometheus_tells_exactly_the_documented_table(client: httpx.AsyncClient, service: str) -> None:
    await send(client, batch(service, 1, 2))
    await client.get("/nothing")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    documented = {name.removesuffix("_total") for name, *_ in TABLE}
    assert set(families) == documented
    for family in families.values():
        assert family.documentation, family.name
        assert family.samples, f"{family.name} is never counted"
    requests = {(s.labels["route"], s.labels["status"]): s.value for s in families["tracehub_requests"].samples
                if s.name.endswith("_total")}  # fmt: skip
    assert requests.get(("ingest", "200"), 0) >= 1, requests
    assert requests.get(("none", "404"), 0) >= 1, requests
    assert families["tracehub_workers"].samples[0].value >= 1


async def test_every_answer_has_hygiene_headers(client: httpx.AsyncClient) -> None:
    for method, path in (("GET", "/health"), ("GET", "/nothing"), ("POST", "/ingest"), ("PUT", "/replay")):
        answer = await client.request(method, path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert uuid.UUID(answer.headers["x-request-id"]).version == 4
        assert "server" not in answer.headers
    for given in ("abc", "!~" * 64):
        answer = await client.get("/health", headers={"X-Request-ID": given})
        assert answer.headers["x-request-id"] == given
    for odd in ("", "a b", "x" * 129, "é"):
        answer = await client.get("/health", headers={"X-Request-ID": odd.encode()})
        assert uuid.UUID(answer.headers["x-request-id"])


async def test_health_ready_and_live(client: httpx.AsyncClient) -> None:
    health = (await client.get("/health")).json()
    assert (health["status"], health["postgres"], health["redis"]) == ("ok", "up", "up")
    assert (await client.get("/ready")).json()["data"]["status"] == "ready"
    assert (await client.get("/live")).json()["data"]["status"] == "alive"


# ---------------------------------------------------------------------------------------- who may call what

CONTROLS = (
    ("POST", "/metrics/control"), ("POST", "/replay"), ("POST", "/replay/999999999/abandon"),
    ("POST", "/dead-letters/999999999/retry"), ("DELETE", "/dead-letters/999999999"),
)  # fmt: skip


@pytest.mark.parametrize(("method", "path"), CONTROLS)
async def test_a_web_page_cannot_reach_control_routes(
    method: str, path: str, client: httpx.AsyncClient, server: Deployment
) -> None:
    json_type = {"Content-Type": "application/json"}
    for headers in (
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    ):
        answer = await client.request(method, path, content=b"{}", headers=headers)
        assert_refused(answer, 415, "unsupported_type")
    for origin in (
        "http://evil.example",
        "null",
        "",
        "http://localhost:1",
        f"http://127.0.0.1:{server.main.port + 1}",
    ):
        answer = await client.request(method, path, content=b"{}", headers={**json_type, "Origin": origin})
        assert_refused(answer, 403, "forbidden")
    for host in ("evil.example", "evil.example:3001", "10.0.0.1", "[::", "localhost.evil.example", "0.0.0.0"):
        answer = await client.request(method, path, content=b"{}", headers={**json_type, "Host": host})
        assert_refused(answer, 403, "forbidden")
    asked = await client.options(path, headers={"Origin": "http://evil.example"})
    for answer in (asked, await client.request(method, path, content=b"{}", headers=json_type)):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    own = {**json_type, "Origin": server.url}
    assert (await client.request(method, path, content=b'{"action":"none"}', headers=own)).status_code in (
        400,
        404,
    )


async def test_control_names_are_forgiving_and_checked(client: httpx.AsyncClient) -> None:
    for body in ({"action": "drop-network", "seconds": 1}, {"command": "drop_network", "seconds": 1},
                 {"control": "drop-network", "seconds": 1}):  # fmt: skip
        answer = await client.post("/metrics/control", json=body)
        told = answer.json()
        assert (answer.status_code, set(told)) == (200, {"action", "active", "until"})
        assert (told["action"], told["active"]) == ("drop_network", True)
        assert TIME.fullmatch(told["until"])
    listed = (await client.get("/metrics/control")).json()
    assert [fault["action"] for fault in listed["faults"]] == ["drop_network"]
    answer = await client.post("/metrics/control", json={"action": "reset"})
    assert answer.json() == {"action": "reset", "active": False, "until": None}
    assert (await client.get("/metrics/control")).json() == {"enabled": True, "faults": []}
    for body, field in (
        ({}, "action"), ({"action": "explode"}, "action"), ({"action": 7}, "action"), ({"action": None}, "action"),
        ({"action": "delay_ack", "seconds": 0}, "seconds"), ({"action": "delay_ack", "seconds": "5"}, "seconds"),
        ({"action": "delay_ack", "seconds": True}, "seconds"), ({"action": "delay_ack", "seconds": 10**9}, "seconds"),
    ):  # fmt: skip
        assert_refused(await client.post("/metrics/control", json=body), 400, "invalid_field", field)
    assert (await client.get("/metrics/control")).json()["faults"] == []


# ------------------------------------------------------------------------- faults, and stores that are away


async def one(backend_url: str, method: str, path: str, body: Any = None) -> httpx.Response:
    """One request to another backend than the shared one."""
    async with httpx.AsyncClient(base_url=backend_url, trust_env=False, timeout=30) as speaking:
        return await speaking.request(method, path, json=body)


async def test_faults_need_to_be_allowed(deploy: Callable[..., Deployment]) -> None:
    url = deploy(faults=0).backend().url
    assert_refused(await one(url, "POST", "/metrics/control", {"action": "reset"}), 403, "forbidden")
    assert (await one(url, "GET", "/metrics/control")).json() == {"enabled": False, "faults": []}


async def test_dropped_network_and_delayed_acks(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy()
    deployment.both()
    url = deployment.url
    await one(url, "POST", "/metrics/control", {"action": "drop_network", "seconds": 60})
    assert_refused(await one(url, "POST", "/ingest", batch("a", 1)), 503, "network_dropped")
    await one(url, "POST", "/metrics/control", {"action": "reset"})
    assert (await one(url, "POST", "/ingest", batch("a", 1))).json()["ackTill"] == 1
    await one(url, "POST", "/metrics/control", {"action": "delay_ack", "seconds": 60})
    answer = await one(url, "POST", "/ingest", batch("a", 2))
    assert answer.elapsed.total_seconds() >= 3
    assert (answer.status_code, answer.json()["ackTill"]) == (200, 2)


async def test_without_a_worker_batches_wait_and_are_told_so(deploy: Callable[..., Deployment]) -> None:
    """202 after ack_timeout, 429 when the queue is full, 503 when it is flushed, stored in the end."""
    deployment = deploy(ack_timeout_s=0.7, queue_entries_max=5)
    url = deployment.backend().url
    answer = await one(url, "POST", "/ingest", batch("a", 1, 2, 3))
    told = answer.json()
    assert (answer.status_code, told["status"], told["queued"], told["ackTill"]) == (202, "queued", 3, 0)
    assert 0.6 <= answer.elapsed.total_seconds() < 3
    assert_refused(await one(url, "POST", "/ingest", batch("a", 4, 5, 6)), 429, "overloaded")
    assert_refused(await one(url, "POST", "/ingest?acks=queued", batch("a", 4, 5, 6)), 429, "overloaded")
    depth = (await one(url, "GET", "/metrics/snapshot")).json()["queue"]["logs"]["depth"]
    assert depth == 3

    async def flushed_while_waiting() -> httpx.Response:
        waiting = asyncio.ensure_future(one(url, "POST", "/ingest", batch("b", 1)))

        async def is_queued() -> bool:
            with redis.Redis.from_url(deployment.queue_url) as client:
                return client.zcard(keys.QUEUE_LOGS) == 2

        await eventually(is_queued)
        told = (await one(url, "POST", "/metrics/control", {"action": "flush_queue"})).json()
        assert told == {"action": "flush_queue", "active": False, "until": None}
        return await waiting

    assert_refused(await flushed_while_waiting(), 503, "unavailable")
    with redis.Redis.from_url(deployment.queue_url) as client:
        assert (client.zcard(keys.QUEUE_LOGS), client.hlen(keys.INFLIGHT_INDEX)) == (0, 0)
    answer = await one(url, "POST", "/ingest?acks=queued", batch("a", 1, 2, 3))
    assert answer.status_code == 202
    deployment.worker()

    async def is_stored() -> bool:
        return (await one(url, "GET", "/ack/a")).json().get("ackTill") == 3

    await eventually(is_stored, 10)


async def test_batches_that_overtake_each_other_in_flight_make_no_gap(
    deploy: Callable[..., Deployment],
) -> None:
    """The highest numbers are first in the queue; no reply calls the others missing."""
    deployment = deploy(ack_timeout_s=30)
    url = deployment.backend().url
    with redis.Redis.from_url(deployment.queue_url) as client:
        waiting = []
        for first in range(1_900, -1, -100):
            body = batch("a", *range(first + 1, first + 101))
            waiting.append(asyncio.ensure_future(one(url, "POST", "/ingest", body)))
            entries = 100 * len(waiting)
            await eventually(lambda e=entries: int(client.hget(keys.INFLIGHT_TOTALS, "entries") or 0) == e)
        deployment.worker()
        replies = [(await reply).json() for reply in waiting]
    assert {(r["missingCount"], r["status"], r["accepted"]) for r in replies} == {(0, "ok", 100)}
    assert max(r["ackTill"] for r in replies) == 2_000
    assert (await one(url, "GET", "/replay")).json()["total"] == 0


async def test_a_job_that_nobody_can_read_is_refused_and_goes(deploy: Callable[..., Deployment]) -> None:
    """A body damaged in Redis: its waiter is told, its mark goes, and what is behind it is stored."""
    deployment = deploy(ack_timeout_s=20)
    url = deployment.backend().url
    waiting = asyncio.ensure_future(one(url, "POST", "/ingest", batch("a", 1)))
    with redis.Redis.from_url(deployment.queue_url) as client:
        await eventually(lambda: client.zcard(keys.QUEUE_LOGS) == 1)
        (job,) = client.zrange(keys.QUEUE_LOGS, 0, 0)
        body = keys.job_body(job.decode())
        whole = client.get(body)
        assert isinstance(whole, bytes)
        client.set(body, whole.replace(b"message 1", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
        deployment.worker()
        assert_refused(await waiting, 503, "unavailable")
        await eventually(lambda: client.hlen(keys.INFLIGHT_INDEX) == 0, 10)
    assert (await one(url, "POST", "/ingest", batch("a", 1, 2))).json()["ackTill"] == 2


async def test_queue_out_of_memory_is_overload(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy()
    deployment.both()
    with redis.Redis.from_url(deployment.queue_url) as client:
        client.config_set("maxmemory", "1")
        assert_refused(await one(deployment.url, "POST", "/ingest", batch("a", 1)), 429, "overloaded")
        client.config_set("maxmemory", "1gb")
    assert (await one(deployment.url, "POST", "/ingest", batch("a", 1))).json()["ackTill"] == 1


async def test_no_redis_is_unavailable(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy()
    part = deployment.begin_backend(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    await eventually(lambda: answers(part.url), 30)
    health = await one(part.url, "GET", "/health")
    assert (health.status_code, health.json()["redis"], health.json()["postgres"]) == (503, "down", "up")
    for method, path, body in (
        ("POST", "/ingest", batch("a", 1)), ("POST", "/ingest?acks=queued", batch("a", 1)),
        ("GET", "/metrics/snapshot", None), ("GET", "/services", None), ("GET", "/proof", None),
    ):  # fmt: skip
        assert_refused(await one(part.url, method, path, body), 503, "unavailable")
    assert (await one(part.url, "GET", "/metrics")).status_code == 200


async def test_no_postgres_is_unavailable(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(ack_timeout_s=1.5)
    part = deployment.begin_backend(database_url=f"postgresql://x@127.0.0.1:{free_port()}/x")
    await eventually(lambda: answers(part.url), 30)
    health = await one(part.url, "GET", "/health")
    assert (health.status_code, health.json()["redis"], health.json()["postgres"]) == (503, "up", "down")
    ready = await one(part.url, "GET", "/ready")
    assert (ready.status_code, ready.headers["retry-after"]) == (503, "1")
    for method, path, body in (
        ("GET", "/ack/a", None), ("GET", "/metrics/snapshot", None), ("GET", "/services", None),
        ("GET", "/proof", None), ("GET", "/replay", None), ("GET", "/dead-letters", None),
        ("POST", "/replay", {"service": "a", "from": 1, "to": 2}), ("POST", "/ingest", batch("a", 1)),
    ):  # fmt: skip
        assert_refused(await one(part.url, method, path, body), 503, "unavailable")


async def answers(url: str) -> bool:
    try:
        return (await one(url, "GET", "/live")).status_code == 200
    except httpx.TransportError:
        return False


async def test_reset_clears_counters_and_keeps_logs(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy()
    deployment.both()
    url = deployment.url
    for _ in range(2):
        await one(url, "POST", "/ingest", batch("a", 1, 2))
    await one(url, "POST", "/ingest", batch("a", 4))
    (row,) = (await one(url, "GET", "/replay")).json()["replays"]
    await one(url, "POST", f"/replay/{row['id']}/abandon", {})
    before = (await one(url, "GET", "/metrics/snapshot")).json()
    assert before["totals"]["duplicates"] == 2
    await one(url, "POST", "/metrics/control", {"action": "reset"})

    async def is_clear() -> bool:
        told = (await one(url, "GET", "/metrics/snapshot")).json()
        assert (told["totals"]["duplicates"], told["totals"]["received"]) == (0, 0)
        assert told["replays"] == {"pending": 0, "running": 0, "completed": 0, "lost": 0}
        return told["totals"]["stored"] == 3

    await eventually(is_clear)
    assert datetime.fromisoformat(before["ts"])
    assert (await one(url, "GET", "/ack/a")).json()["ackTill"] == 4
