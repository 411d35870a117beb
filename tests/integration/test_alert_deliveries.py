"""Deliveries of alerts (log-service.md §7): retries, refusals, secrets, workers that end in the middle."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import httpx
import pytest

from tests.eventually import eventually
from tests.integration.conftest import Deployment
from tests.integration.receivers import Receiver, mail_server, receiving
from tracehub.protocol.times import parse_time
from tracehub.runtime.clock import now_ms
from tracehub.runtime.embedded.ports import free_port


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.fixture
async def api(server: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking(server) as client:
        yield client


def speaking(server: Deployment) -> httpx.AsyncClient:
    """Speaks for a tenant of the test's own."""
    tenant = {"X-Tenant-ID": f"team-{uuid.uuid4().hex[:12]}"}
    return httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30, headers=tenant)


class Sent:
    """An alert whose channels were tested."""

    def __init__(self, api: httpx.AsyncClient, database: str, alert: dict[str, Any]) -> None:
        self._api = api
        self._database = database
        self.alert = alert

    async def all(self) -> list[dict[str, Any]]:
        answer = await self._api.get(f"/api/v1/alerts/{self.alert['id']}/deliveries")
        found: list[dict[str, Any]] = answer.json()["data"]
        return found

    async def one(self, status: str, attempts: int = 1) -> dict[str, Any]:
        """Its delivery, once it came so far."""

        async def found() -> dict[str, Any] | None:
            (delivery,) = await self.all()
            at = (delivery["status"], delivery["attempts"])
            # While an attempt runs nothing is known of it.
            is_over = delivery["error"] is not None or delivery["http_status"] is not None or status == "sent"
            assert at == (status, attempts), delivery
            return delivery if is_over else None

        return await eventually(found, 13)

    async def step(self) -> None:
        """The time until the next attempt has gone by."""
        connection = await asyncpg.connect(self._database, ssl=False)
        await connection.execute(
            "update alert_deliveries set next_attempt_at = now() - interval '1 second', error = null,"
            " http_status = null where alert_id = $1::text::uuid and status = 'pending'",
            self.alert["id"],
        )
        await connection.close()


async def tested(api: httpx.AsyncClient, database: str, *channels: Any, **more: Any) -> Sent:
    body = {"name": "n", "filter": {}, "threshold": 100, "channels": list(channels), **more}
    made = await api.post("/api/v1/alerts", json=body)
    assert made.status_code == 201, made.text
    sent = Sent(api, database, made.json()["data"])
    told = await api.post(f"/api/v1/alerts/{sent.alert['id']}/test", json={})
    assert told.status_code == 202, told.text
    return sent


def hook(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "webhook", "url": url, **more}


async def test_a_test_delivery_is_a_normal_one(
    api: httpx.AsyncClient, server: Deployment, receiver: Receiver
) -> None:
    sent = await tested(
        api, server.database, hook(receiver.url + "/t", secret="plain words".replace(" ", "-"))
    )
    await sent.one("sent")
    (heard,) = receiver.at("/t")
    assert heard.document["type"] == "alert.test"
    assert heard.document["data"]["count"] == 0
    assert heard.document["data"]["first"] is None
    assert heard.headers["content-type"] == "application/json"


async def test_a_failure_is_tried_again_under_the_same_id(
    api: httpx.AsyncClient, server: Deployment, receiver: Receiver
) -> None:
    secret = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    before = now_ms()
    sent = await tested(api, server.database, hook(receiver.will("/again", 500, 503, 200), secret=secret))
    for attempts, status, low_s, high_s in ((1, 500, 4, 6), (2, 503, 24, 36)):
        waiting = await sent.one("pending", attempts)
        assert waiting["http_status"] == status
        assert str(status) in waiting["error"]
        assert "own words" not in waiting["error"]
        next_ms = parse_time(waiting["next_attempt_at"])
        assert next_ms >= before + low_s * 1000
        assert next_ms <= now_ms() + high_s * 1000
        before = now_ms()
        await sent.step()
    await sent.one("sent", 3)
    heard = receiver.at("/again")
    assert len({one.headers["webhook-id"] for one in heard}) == 1
    assert len({one.body for one in heard}) == 1
    assert all(one.is_signed_by(secret) for one in heard)


async def test_after_the_last_attempt_it_has_failed(
    api: httpx.AsyncClient, server: Deployment, receiver: Receiver
) -> None:
    sent = await tested(api, server.database, hook(receiver.will("/never", 500)))
    for attempts in range(1, 7):
        await sent.one("pending", attempts)
        await sent.step()
    failed = await sent.one("failed", 7)
    assert failed["finished_at"]
    assert failed["next_attempt_at"] is None


async def test_a_redirect_is_not_followed(
    api: httpx.AsyncClient, server: Deployment, receiver: Receiver
) -> None:
    url = receiver.will("/moved", 302, Location=receiver.url + "/elsewhere")
    sent = await tested(api, server.database, hook(url))
    waiting = await sent.one("pending")
    assert (waiting["http_status"], "redirect" in waiting["error"]) == (302, True)
    assert receiver.at("/elsewhere") == []


async def test_gone_switches_the_channel_off(
    api: httpx.AsyncClient, server: Deployment, receiver: Receiver
) -> None:
    sent = await tested(api, server.database, hook(receiver.will("/gone", 410)), threshold=1)
    failed = await sent.one("failed")
    assert failed["http_status"] == 410
    path = f"/api/v1/alerts/{sent.alert['id']}"
    (channel,) = (await api.get(path)).json()["data"]["channels"]
    assert channel == {**sent.alert["channels"][0], "disabled": True}
    again = await api.post(path + "/test", json={})
    assert again.json()["data"] == {"deliveries": []}
    (on,) = (await api.put(path, json={"channels": [sent.alert["channels"][0]]})).json()["data"]["channels"]
    assert "disabled" not in on


async def test_retry_after_is_obeyed(api: httpx.AsyncClient, server: Deployment, receiver: Receiver) -> None:
    soon = await tested(api, server.database, hook(receiver.will("/soon", 429, 200, Retry_After="1")))
    late = await tested(api, server.database, hook(receiver.will("/late", 429, Retry_After="3000")))
    never = await tested(api, server.database, hook(receiver.will("/never", 429, Retry_After="3700")))
    waiting = await late.one("pending")
    assert 2_990_000 < parse_time(waiting["next_attempt_at"]) - now_ms() <= 3_000_000
    waiting = await never.one("pending")
    assert parse_time(waiting["next_attempt_at"]) - now_ms() <= 6_000  # too long to be obeyed
    await soon.one("sent", 2)


async def test_a_slow_receiver_is_left_after_ten_seconds(
    api: httpx.AsyncClient, server: Deployment, receiver: Receiver
) -> None:
    sent = await tested(api, server.database, hook(receiver.url + "/slow"))
    await eventually(lambda: receiver.at("/slow"))
    waiting = await sent.one("pending")
    assert "10 s" in waiting["error"]


async def test_what_cannot_be_reached_is_tried_again_and_says_why(
    api: httpx.AsyncClient, server: Deployment, receiver: Receiver
) -> None:
    whys = {
        f"http://127.0.0.1:{free_port()}/x": "nothing listens there",
        receiver.url.replace("http:", "https:") + "/x": "its certificate is not trusted, or it speaks no TLS",
        "http://no-such-host.invalid/x": "its name is not known",
    }
    for url, why in whys.items():
        waiting = await (await tested(api, server.database, hook(url))).one("pending")
        assert waiting["http_status"] is None
        assert waiting["error"] == f"the receiver could not be reached: {why}", url


async def test_private_addresses_are_refused(deploy: Callable[..., Deployment], receiver: Receiver) -> None:
    """By the worker that connects, whatever the address looks like; the name resolves to loopback."""
    deployment = deploy(alert_private_urls="deny")
    deployment.both()
    port = receiver.url.rsplit(":", 1)[1]
    async with speaking(deployment) as api:
        for host in (
            "127.0.0.1", "localhost", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]",
            "0.0.0.0", "10.0.0.1", "169.254.169.254", "[fe80::1]", "[64:ff9b::7f00:1]", "100.64.0.1", "[fd00::1]",
        ):  # fmt: skip
            sent = await tested(api, deployment.database, hook(f"http://{host}:{port}/inside"))
            failed = await sent.one("failed")
            assert failed["error"] == "the address is not one that may be reached", host
        for host in ("127.1", "2130706433"):
            sent = await tested(api, deployment.database, hook(f"http://{host}:{port}/inside"))
            assert (await sent.one("failed"))["error"] == "the address is no http(s) address", host
    assert receiver.heard == []


@pytest.mark.parametrize(
    ("settings", "reaches"),
    [({}, True), ({"host": "0.0.0.0", "insecure": 1}, False), ({"alert_private_urls": "allow"}, True)],
)
async def test_auto_allows_them_while_only_this_machine_reaches_us(
    deploy: Callable[..., Deployment], receiver: Receiver, settings: dict[str, object], reaches: bool
) -> None:
    """The worker knows it of the backend: its own settings say nothing of how that listens."""
    deployment = deploy()
    deployment.worker(**{name: value for name, value in settings.items() if name == "alert_private_urls"})
    deployment.backend(**settings)
    async with speaking(deployment) as api:
        sent = await tested(api, deployment.database, hook(receiver.url + "/auto"))
        await sent.one("sent" if reaches else "failed")
    assert bool(receiver.at("/auto")) is reaches


async def test_another_worker_takes_what_a_dead_one_was_sending(
    deploy: Callable[..., Deployment], receiver: Receiver
) -> None:
    deployment = deploy()
    deployment.both()
    (worker,) = [part for part in deployment.parts if part.worker_id]
    async with speaking(deployment) as api:
        sent = await tested(api, deployment.database, hook(receiver.url + "/slow"))
        await eventually(lambda: receiver.at("/slow"))
        worker.child.kill()
        worker.child.wait()
        receiver.released.set()
        deployment.worker()
        (delivery,) = await sent.all()
        assert (delivery["status"], delivery["attempts"]) == ("pending", 1)  # nobody else yet
        assert parse_time(delivery["next_attempt_at"]) > now_ms()
        await sent.step()
        await sent.one("sent", 2)
    first, second = receiver.at("/slow")
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


async def test_the_server_wide_channels(deploy: Callable[..., Deployment], receiver: Receiver) -> None:
    port = free_port()
    deployment = deploy(
        slack_webhook=receiver.url + "/slack",
        alert_webhook=receiver.url + "/hook",
        alert_webhook_secret="whsec_c2VjcmV0IG9mIHRoZSBzZXJ2ZXI=",
        pagerduty_key="the-key",
        pagerduty_url=receiver.will("/pagerduty", 202),
        alert_email="a@example.org, b@example.org",
        smtp_host="127.0.0.1",
        smtp_port=port,
        smtp_from="alerts@example.org",
        smtp_tls="none",
        public_url="https://logs.example.org/",
    )
    deployment.both()
    with mail_server(port) as box:
        box.refusals = 1
        async with speaking(deployment) as api:
            words = ["slack", "webhook", "pagerduty", "email"]
            sent = await tested(api, deployment.database, *words, name="näme\n& <more>", severity="CRITICAL")
            assert sent.alert["channels"] == words

            async def all_but_mail() -> bool:
                return sorted(d["status"] for d in await sent.all()) == ["pending", "sent", "sent", "sent"]

            await eventually(all_but_mail, 10)
            await sent.step()
            await eventually(lambda: box.mails, 10)
            own = {"type": "email", "recipients": ["c@example.org"]}
            other = await tested(api, deployment.database, own)
            await other.one("sent")
            own["recipients"] = ["nobody@example.org", "d@example.org"]
            told = (await (await tested(api, deployment.database, own)).one("failed"))["error"]
            assert told == "1 of 2 recipients were refused; the others have it"
            own["recipients"] = ["nobody@example.org"]
            told = (await (await tested(api, deployment.database, own)).one("pending"))["error"]
            assert told == "the receiver could not be reached: it does not take the mail"
    (slack,) = receiver.at("/slack")
    assert slack.document["text"] == "[CRITICAL] näme &amp; &lt;more&gt;: 0 matches in 5 min (threshold 100)"
    (webhook,) = receiver.at("/hook")
    assert webhook.is_signed_by("whsec_c2VjcmV0IG9mIHRoZSBzZXJ2ZXI=")
    assert webhook.document["data"]["url"] == f"https://logs.example.org/alerts/{sent.alert['id']}"
    (pager,) = receiver.at("/pagerduty")
    event = pager.document
    assert (event["routing_key"], event["event_action"]) == ("the-key", "trigger")
    assert event["dedup_key"] == f"tracehub:{sent.alert['id']}"
    assert event["payload"]["severity"] == "critical"
    (recipients, mail), (others, _), (rest, _) = box.mails
    assert rest == ["d@example.org"]
    assert recipients == ["a@example.org", "b@example.org"]
    assert others == ["c@example.org"]
    assert mail["Subject"] == "[TraceHub] [CRITICAL] näme & <more>: 0 matches in 5 min"
    assert mail["From"] == "alerts@example.org"
    assert mail.get_content_type() == "text/plain"
    assert "https://logs.example.org/" in mail.get_content()


async def test_what_is_not_configured_fails_at_once(api: httpx.AsyncClient, server: Deployment) -> None:
    words = ["slack", "webhook", "pagerduty", "email", {"type": "email", "recipients": ["a@example.org"]}]
    sent = await tested(api, server.database, *words)

    async def failed() -> bool:
        found = await sent.all()
        return [(d["status"], d["error"], d["attempts"]) for d in found] == [
            ("failed", "not_configured", 1)
        ] * 5

    await eventually(failed)


async def test_old_deliveries_are_forgotten(
    api: httpx.AsyncClient, server: Deployment, receiver: Receiver, postgres: asyncpg.Connection
) -> None:
    from tracehub.storage.postgres.alerts import AlertStore
    from tracehub.storage.postgres.connect import open_pool

    sent = await tested(api, server.database, hook(receiver.url + "/kept"))
    await sent.one("sent")
    pool = open_pool(server.database, "test")
    async with pool:
        store = AlertStore(pool, None)  # type: ignore[arg-type]
        for days, left in ((29, 1), (31, 0)):
            await postgres.execute(
                "update alert_deliveries set created_at = now() - $2 * interval '1 day'"
                " where alert_id = $1::text::uuid",
                sent.alert["id"], days,
            )  # fmt: skip
            await store.forget()
            assert len(await sent.all()) == left
