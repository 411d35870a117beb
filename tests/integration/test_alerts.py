"""Alerts end to end (log-service.md §7): entries of every door, one trigger, what is said of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import httpx
import pytest

from tests.eventually import eventually
from tests.integration.asking import batch
from tests.integration.conftest import Deployment
from tests.integration.receivers import Receiver, receiving

DECIDED_S = 4.0  # 2 s from the commit, the way to the receiver, and a machine that has more to do


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.fixture
async def api(server: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks for a tenant of the test's own."""
    tenant = {"X-Tenant-ID": f"team-{uuid.uuid4().hex[:12]}"}
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30, headers=tenant) as client:
        yield client


async def made_alert(api: httpx.AsyncClient, url: str | None = None, **more: Any) -> dict[str, Any]:
    """An alert with a threshold of 3 in one minute."""
    body = {"name": "too many", "filter": {}, "threshold": 3, "window_mins": 1, **more}
    if url:
        body["channels"] = [{"type": "webhook", "url": url}]
    answer = await api.post("/api/v1/alerts", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()["data"]
    return made


async def say(api: httpx.AsyncClient, count: int = 1, **more: Any) -> None:
    entries = [{"service_name": "shop", "message": f"m{n}", "level": "error", **more} for n in range(count)]
    answer = await api.post("/api/v1/logs/batch", json={"entries": entries})
    assert answer.status_code == 201, answer.text


async def alert_of(api: httpx.AsyncClient, alert: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get(f"/api/v1/alerts/{alert['id']}")).json()["data"]
    return found


async def deliveries_of(api: httpx.AsyncClient, alert: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.get(f"/api/v1/alerts/{alert['id']}/deliveries")).json()["data"]
    return found


async def looked_at(api: httpx.AsyncClient, receiver: Receiver) -> None:
    """What was committed before is decided: an alert that came later, and concerns the same entries, has triggered."""
    path = f"/marker-{uuid.uuid4().hex}"
    await made_alert(api, receiver.url + path, threshold=1)
    await eventually(lambda: receiver.at(path), DECIDED_S)


async def cooled(postgres: asyncpg.Connection, alert: dict[str, Any], seconds: int = 60) -> None:
    """The time of its cool-down has gone by."""
    await postgres.execute(
        "update alerts set last_triggered = last_triggered - $2 * interval '1 second',"
        " updated_at = updated_at + interval '1 millisecond' where id = $1::text::uuid",
        alert["id"], seconds,
    )  # fmt: skip


async def test_the_third_entry_triggers_once(
    api: httpx.AsyncClient, receiver: Receiver, postgres: asyncpg.Connection
) -> None:
    alert = await made_alert(api, receiver.url + "/hook", filter={"level": "ERROR"})
    await say(api, 2)
    await say(api, 5, level="info")
    await looked_at(api, receiver)
    assert receiver.at("/hook") == []
    await say(api)
    await eventually(lambda: receiver.at("/hook"), DECIDED_S)
    await say(api)
    await looked_at(api, receiver)
    assert len(receiver.at("/hook")) == 1
    assert (await alert_of(api, alert))["last_triggered"]
    await cooled(postgres, alert)  # the fourth one came after the trigger, and is in the window still
    await eventually(lambda: len(receiver.at("/hook")) == 2, DECIDED_S + 1)


async def test_what_a_webhook_says(api: httpx.AsyncClient, receiver: Receiver) -> None:
    alert = await made_alert(
        api,
        receiver.url + "/said",
        filter={"service_name": "shop"},
        description="look at it",
        severity="warn",
    )
    await say(api, 3)
    (heard,) = await eventually(lambda: receiver.at("/said"), DECIDED_S)
    document = heard.document
    data = document["data"]
    assert document["type"] == "alert.triggered"
    assert data["alert"] == {
        "id": alert["id"], "name": "too many", "description": "look at it", "severity": "WARN",
        "tenant_id": alert["tenant_id"],
    }  # fmt: skip
    assert (data["count"], data["threshold"], data["window_mins"]) == (3, 3, 1)
    assert (data["first"]["message"], data["last"]["message"]) == ("m0", "m2")
    assert data["first"]["service_name"] == "shop"
    assert data["filter"] == {"service_name": "shop"}
    assert data["window_start"] < data["first"]["timestamp"] <= data["window_end"] == document["timestamp"]
    assert data["url"] == f"http://localhost:3001/alerts/{alert['id']}"
    assert data["completeness"] == {
        "complete": True, "missing": 0, "lost": 0, "inFlight": 0, "services": []
    }  # fmt: skip
    secret = alert["channels"][0]["secret"]
    assert secret.startswith("whsec_")
    assert heard.is_signed_by(secret)
    (delivery,) = await deliveries_of(api, alert)
    assert delivery["id"] == heard.headers["webhook-id"]
    await eventually(lambda: _is(api, alert, "sent"))
    (delivery,) = await deliveries_of(api, alert)
    assert {name: delivery[name] for name in ("alert_id", "type", "attempts", "http_status", "error")} == {
        "alert_id": alert["id"], "type": "webhook", "attempts": 1, "http_status": 200, "error": None,
    }  # fmt: skip
    assert delivery["finished_at"]
    assert delivery["next_attempt_at"] is None


async def _is(api: httpx.AsyncClient, alert: dict[str, Any], status: str) -> bool:
    return [d["status"] for d in await deliveries_of(api, alert)] == [status]


async def test_entries_of_every_door_count(api: httpx.AsyncClient, receiver: Receiver) -> None:
    service = f"svc-{uuid.uuid4().hex[:8]}"
    sends: dict[str, Callable[[], Any]] = {
        "ingest": lambda: api.post("/ingest", json=batch(service, 1)),
        "logs": lambda: api.post("/api/v1/logs", json={"service_name": service, "message": "m"}),
        "logstream": lambda: api.post(
            "/api/logs",
            json={"app_key": service, "app_id": "i", "message": "m"},
            headers={"X-App-Key": service, "X-App-Id": "i"},
        ),
        "otlp": lambda: api.post(
            "/v1/logs",
            json={"resourceLogs": [{
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
                "scopeLogs": [{"logRecords": [{"body": {"stringValue": "m"}}]}],
            }]},
        ),
        "loki": lambda: api.post(
            "/loki/api/v1/push",
            json={"streams": [{"stream": {"service": service}, "values": [["1", "line"]]}]},
        ),
    }  # fmt: skip
    for door in sends:
        await made_alert(
            api, f"{receiver.url}/{door}", filter={"door": door, "service": service}, threshold=1
        )
    for door, send in sends.items():
        answer = await send()
        assert answer.status_code < 300, (door, answer.text)
    for door in sends:
        if door == "loki":
            continue  # its time was of 1970 and became now
        (heard,) = await eventually(lambda door=door: receiver.at(f"/{door}"), DECIDED_S)
        assert heard.document["data"]["first"]["door"] == door
    (heard,) = await eventually(lambda: receiver.at("/loki"), DECIDED_S)


async def test_only_the_window_counts(api: httpx.AsyncClient, receiver: Receiver) -> None:
    from tracehub.protocol.times import iso
    from tracehub.runtime.clock import now_ms

    await made_alert(api, receiver.url + "/old", filter={"service": "old"})
    await made_alert(api, receiver.url + "/early", filter={"service": "early"})
    await say(api, 5, service_name="old", timestamp=iso(now_ms() - 61_000))
    await say(api, 2, service_name="old", timestamp=iso(now_ms() - 30_000))
    await say(api, 3, service_name="early", timestamp=iso(now_ms() + 3_600_000))
    await eventually(lambda: receiver.at("/early"), DECIDED_S)
    await looked_at(api, receiver)
    assert receiver.at("/old") == []


async def test_another_tenants_entries_do_not_count(
    api: httpx.AsyncClient, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await made_alert(api, receiver.url + "/mine")
    await say(client, 5)
    await say(api, 2)
    await looked_at(api, receiver)
    assert receiver.at("/mine") == []


async def test_an_alert_that_is_off_stays_silent(api: httpx.AsyncClient, receiver: Receiver) -> None:
    alert = await made_alert(api, receiver.url + "/off", enabled=False)
    assert alert["enabled"] is False
    await say(api, 3)
    await looked_at(api, receiver)
    assert receiver.at("/off") == []
    assert (await api.post(f"/api/v1/alerts/{alert['id']}/enable", json={})).status_code == 204
    await eventually(lambda: receiver.at("/off"), DECIDED_S)


async def test_the_message_says_that_the_window_is_not_whole(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    service = f"svc-{uuid.uuid4().hex[:8]}"
    answer = await api.post(
        "/api/v1/alerts",
        json={
            "name": "a <b> & c", "filter": {"service": service}, "threshold": 2, "window_mins": 1,
            "channels": [
                {"type": "webhook", "url": receiver.url + "/gap"},
                {"type": "slack", "webhook": receiver.url + "/slack"},
            ],
        },
    )  # fmt: skip
    assert answer.status_code == 201, answer.text
    await api.post("/ingest", json=batch(service, 1, 4))
    (heard,) = await eventually(lambda: receiver.at("/gap"), DECIDED_S)
    known = heard.document["data"]["completeness"]
    assert (known["complete"], known["missing"]) == (False, 2)
    (slack,) = await eventually(lambda: receiver.at("/slack"), DECIDED_S)
    assert slack.document["text"] == (
        "[ERROR] a &lt;b&gt; &amp; c: 2 matches in 1 min (threshold 2) (incomplete window: 2 missing)"
    )
    assert slack.document["blocks"]
    assert "webhook-signature" not in slack.headers


async def test_two_workers_trigger_once(deploy: Callable[..., Deployment], receiver: Receiver) -> None:
    deployment = deploy()
    deployment.both()
    deployment.worker()
    tenant = {"X-Tenant-ID": "team-two"}
    async with httpx.AsyncClient(base_url=deployment.url, trust_env=False, timeout=30, headers=tenant) as api:
        alerts = [await made_alert(api, f"{receiver.url}/two-{n}") for n in range(10)]
        await asyncio.gather(*(say(api, 20) for _ in range(10)))
        for n in range(10):
            await eventually(lambda n=n: receiver.at(f"/two-{n}"), 5)
        await asyncio.gather(*(say(api, 20) for _ in range(10)))
        await looked_at(api, receiver)
        assert [len(receiver.at(f"/two-{n}")) for n in range(10)] == [1] * 10
        for alert in alerts:
            assert len(await deliveries_of(api, alert)) == 1


async def test_the_sweep_finds_what_a_crash_lost(
    api: httpx.AsyncClient, receiver: Receiver, postgres: asyncpg.Connection
) -> None:
    """No commit and no change says anything of it: as if the worker had ended before it looked."""
    alert = await made_alert(api, receiver.url + "/swept", window_mins=5)
    await say(api, 3)
    await eventually(lambda: receiver.at("/swept"), DECIDED_S)
    await postgres.execute("update alerts set last_triggered = null where id = $1::text::uuid", alert["id"])
    await eventually(lambda: len(receiver.at("/swept")) == 2, 33)
