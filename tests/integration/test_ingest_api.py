"""The HTTP routes of ingest.md §2, §4, §8 and §9: every key of every answer, and who may call what."""

from __future__ import annotations

import json
import re
import uuid
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
    assert_refused(await client.post("/replay", json=[1]), 400, "invalid_json")
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
        if method == "DELETE" and not headers:
            assert answer.status_code == 404  # no form can send it
            continue
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


async def test_405_names_every_method_of_the_path(client: httpx.AsyncClient) -> None:
    for path, allowed in (("/ingest", "POST"), ("/replay", "GET, HEAD, POST"), ("/services", "GET, HEAD")):
        answer = await client.put(path)
        assert_refused(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allowed


async def test_sequence_of_many_ranges_is_drawn_whole(client: httpx.AsyncClient, service: str) -> None:
    """1,500 gaps do not fit: what is drawn is wider, and covers every number of its kind."""
    await client.post("/ingest", json=batch(service, *range(2, 3_002, 2)))
    line = (await client.get(f"/sequence/{service}")).json()
    gaps = "missing" if line["missing"] else "replaying"
    assert sorted(line["coarse"]) == sorted(["stored", gaps])
    for kind, numbers in (("stored", range(2, 3_002, 2)), (gaps, range(1, 3_000, 2))):
        assert len(line[kind]) <= 1_000
        covered = {n for low, high in line[kind] for n in range(low, high + 1)}
        assert covered >= set(numbers)
        assert max(covered) <= line["to"]
    part = (await client.get(f"/sequence/{service}", params={"from": 2_990, "to": 2_999})).json()
    assert (part["coarse"], part["stored"]) == ([], [[n, n] for n in range(2_990, 3_000, 2)])


async def test_sequence_names_each_kind_of_number(client: httpx.AsyncClient, service: str) -> None:
    """Stored, missing or asked for again, and lost, within a window."""
    await client.post("/ingest", json=batch(service, 1, 2, 6))
    await client.post("/ingest", json={"service": service, "batch": [], "lost": [[4, 4, "gone"]]})
    line = (await client.get(f"/sequence/{service}")).json()
    assert (line["from"], line["to"], line["ackTill"], line["highestSeen"]) == (1, 6, 2, 6)
    assert (line["stored"], line["lost"]) == ([[1, 2], [6, 6]], [[4, 4]])
    assert sorted(line["missing"] + line["replaying"]) == [[3, 3], [5, 5]]
    assert (line["inFlight"], line["expired"], line["coarse"]) == ([], [], [])
    part = (await client.get(f"/sequence/{service}", params={"from": 2, "to": 5})).json()
    assert (part["stored"], part["lost"]) == ([[2, 2]], [[4, 4]])
    assert_refused(await client.get(f"/sequence/{service}?from=5&to=4"), 400, "invalid_field", "from")
    assert_refused(await client.get("/sequence/nobody"), 404, "unknown_service")
