"""Retention and alerts as an admin sets them on a page, and keys (test_keys.py) on servers of their own."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PHONE
from tests.browser.receiver import Receiver, receiving
from tests.browser.test_logs import HOSTILE, MARKUP, unique
from tests.browser.test_pages import findings
from tests.eventually import eventually_sync

Look = Callable[..., Page]
ALERTS, RETENTION = "/api/v1/alerts", "/api/v1/retention"
EVERYBODYS = {"all_tenants": "true"}


@pytest.fixture(autouse=True)
def left_clean(api: httpx.Client) -> Iterator[None]:
    """The server is shared: what a test made is gone after it."""
    yield
    for path in (RETENTION, ALERTS):
        for one in api.get(path, params=EVERYBODYS).json()["data"]:
            assert api.request("DELETE", f"{path}/{one['id']}", json={}).status_code == 204


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def panel(page: Page, title: str) -> Locator:
    return page.get_by_role("region", name=title, exact=True)


def refused(look: Any, *statuses: int) -> None:
    """The browser's own word on the console for an answer that a test wants."""
    look.expected = re.compile("status of (" + "|".join(map(str, statuses)) + ")")


def made_alert(api: httpx.Client, **more: Any) -> dict[str, Any]:
    body = {"name": unique("alert"), "filter": {}, "threshold": 10**9, **more}
    answer = api.post(ALERTS, json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()["data"]
    return made


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_a_policy_is_made_changed_and_deleted(look: Look, api: httpx.Client) -> None:
    refused(look, 400, 409)
    tenant = unique("team")
    page = look("/retention")
    page.get_by_role("button", name="New policy").click()
    form = page.get_by_role("form", name="New policy")
    expect(form.get_by_label("Tenant")).to_be_focused()
    form.get_by_label("Tenant").fill(tenant)
    form.get_by_label("Days").fill("ninety")
    form.get_by_label("Days").press("Enter")
    expect(form.get_by_label("Days")).to_have_attribute("aria-invalid", "true")
    expect(form.get_by_label("Days")).to_be_focused()
    expect(form.get_by_role("alert")).to_contain_text("a whole number (1 to 3650)")
    assert findings(page) == []
    form.get_by_label("Days").fill("90")
    form.get_by_label("Archive entries").check()
    form.get_by_role("button", name="Create").click()
    expect(form.get_by_label("Archive path")).to_have_attribute("aria-invalid", "true")
    form.get_by_label("Archive path").fill("cold")
    form.get_by_role("button", name="Create").click()
    row = panel(page, "Policies").locator("tbody tr")
    expect(row).to_contain_text(re.compile(r"90.*10.*cold", re.DOTALL))
    (policy,) = api.get(RETENTION).json()["data"]
    expect(row).to_contain_text(policy["tenant_id"])

    page.get_by_role("button", name="New policy").click()
    form.get_by_label("Tenant").fill(tenant)
    form.get_by_role("button", name="Create").click()
    expect(form.get_by_role("alert")).to_contain_text("this tenant has a retention policy")
    form.get_by_role("button", name="Cancel").click()

    row.get_by_role("button", name="Edit").click()
    change = page.get_by_role("form", name="Change the policy")
    expect(change.get_by_label("Archive path")).to_have_value("cold")
    change.get_by_label("Size").fill("0.5")
    change.get_by_label("Archive entries").uncheck()
    change.get_by_role("button", name="Save").click()
    expect(row).to_contain_text(re.compile(r"90.*0\.5.*off", re.DOTALL))

    row.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(policy["tenant_id"])
    dialog.get_by_role("button", name="Keep it").click()
    assert len(api.get(RETENTION).json()["data"]) == 1
    row.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("There is no policy that you could see.")).to_be_visible()


def test_a_dry_run_is_followed_until_it_is_done(look: Look) -> None:
    page = look("/retention")
    runs = panel(page, "Runs")
    expect(runs.get_by_text("None yet.").or_(runs.locator("tbody tr").first)).to_be_visible()
    before = runs.locator("tbody tr").count()
    runs.get_by_role("button", name="Dry run").click()
    expect(runs.get_by_role("status")).to_have_text("A dry run was asked for.")
    expect(runs.locator("tbody tr")).to_have_count(before + 1)
    newest = runs.locator("tbody tr").first
    expect(newest).to_contain_text("dry run")
    expect(newest.locator(".signal")).to_have_text("done")
    runs.get_by_role("button", name="Run now").click()
    expect(page.get_by_role("dialog")).to_contain_text("deleted for good")
    page.get_by_role("button", name="Not now").click()
    expect(runs.locator("tbody tr")).to_have_count(before + 1)


def test_an_alert_is_made_tested_triggered_and_deleted(
    look: Look, api: httpx.Client, receiver: Receiver
) -> None:
    refused(look, 400)
    service, name = unique("shop"), unique("too many")
    page = look("/alerts")
    page.get_by_role("button", name="New alert").click()
    form = page.get_by_role("form", name="New alert")
    form.get_by_label("Name").fill(name)
    form.get_by_label("Severity").select_option("CRITICAL")
    form.get_by_label("Service").fill(service)
    form.get_by_label("Level at least").select_option("WARN")
    form.get_by_label("Text in the message").fill("refused")
    form.get_by_label("Environment").fill("production")
    form.get_by_label("Metadata").fill("code=5\nkind=card")
    form.get_by_label("Entries, at least").fill("none")
    form.get_by_role("button", name="Add a channel").click()
    form.get_by_label("Address").fill("ftp://nowhere")
    form.get_by_role("button", name="Create").click()
    expect(form.get_by_label("Entries, at least")).to_have_attribute("aria-invalid", "true")
    form.get_by_label("Entries, at least").fill("2")
    form.get_by_role("button", name="Create").click()
    expect(form.get_by_label("Address")).to_have_attribute("aria-invalid", "true")
    assert findings(page) == []
    form.get_by_label("Address").fill(receiver.url + "/hook")
    form.get_by_role("button", name="Create").click()

    expect(page).to_have_url(re.compile("/alerts/[0-9a-f-]{36}$"))
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    (alert,) = api.get(ALERTS).json()["data"]
    assert alert["filter"] == {
        "service": service, "min_level": "WARN", "search": "refused", "environment": "production",
        "metadata": {"code": 5, "kind": "card"},
    }  # fmt: skip
    deliveries = panel(page, "Deliveries").locator("tbody tr")
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_role("status").filter(has_text="1 delivery asked for")).to_be_visible()
    expect(deliveries).to_have_count(1)
    expect(deliveries.first).to_contain_text(re.compile("webhook.*sent.*1.*200", re.DOTALL))
    (test,) = receiver.documents
    assert test["type"] == "alert.test"

    entry = {
        "service_name": service,
        "level": "error",
        "message": "it was refused",
        "environment": "production",
    }
    for kind in ("card", "card", "cash"):
        sent = api.post("/api/v1/logs", json={**entry, "metadata": {"code": 5, "kind": kind}})
        assert sent.status_code == 201, sent.text
    expect(deliveries).to_have_count(2)
    expect(deliveries.first.locator(".signal")).to_have_text("sent")
    triggered = eventually_sync(lambda: receiver.documents[1:], 10)[0]
    assert (triggered["type"], triggered["data"]["count"]) == ("alert.triggered", 2)
    assert triggered["data"]["url"].endswith(f"/alerts/{alert['id']}")
    expect(page.locator(".fields", has_text="Last triggered")).not_to_contain_text("never")

    page.get_by_role("link", name="The logs it counts").click()
    expect(page).to_have_url(re.compile(f"view=history&service={service}&severity=13&text=refused"))
    expect(page.locator(".log-row")).to_have_count(3)  # also the one of another kind, as was said
    page.go_back()

    page.get_by_role("button", name="Disable").click()
    expect(page.locator(".signal", has_text="disabled")).to_be_visible()
    assert api.get(f"{ALERTS}/{alert['id']}").json()["data"]["enabled"] is False
    page.get_by_role("button", name="Enable").click()
    expect(page.locator(".signal", has_text="enabled")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete it").click()
    expect(page).to_have_url(re.compile("/alerts$"))
    expect(page.get_by_text("None yet.")).to_be_visible()
    assert api.get(ALERTS).json()["data"] == []


def test_changing_an_alert_keeps_what_its_form_does_not_know(look: Look, api: httpx.Client) -> None:
    channels = [
        {"type": "webhook", "url": "https://hooks.example.org/a", "secret": "s3cret"},
        "slack",
        {"type": "email", "recipients": ["a@example.org", "b@example.org"]},
        {"type": "pagerduty", "routing_key": "k"},
        {"type": "pagerduty", "disabled": True},
    ]
    kept = {"host": ["h1", "h2"], "level": "notice", "metadata": {"id": "5"}}
    alert = made_alert(api, filter=kept, channels=channels, description="first\nsecond", window_mins=7)
    page = look(f"/alerts/{alert['id']}")
    page.get_by_role("button", name="Edit").click()
    form = page.get_by_role("form", name="Change the alert")
    form.get_by_label("Service").fill("shop")
    form.get_by_role("button", name="Save").click()
    expect(page.locator(".fields", has_text="Counts")).to_contain_text("service shop")
    changed = api.get(f"{ALERTS}/{alert['id']}").json()["data"]
    assert changed["filter"] == {**kept, "service": "shop"}
    assert changed["channels"] == channels
    same = (
        "name",
        "description",
        "threshold",
        "window_mins",
        "cooldown_mins",
        "severity",
        "enabled",
        "tenant_id",
    )
    assert {name: changed[name] for name in same} == {name: alert[name] for name in same}
    page.get_by_role("button", name="Edit").click()
    form.get_by_role("button", name="Remove channel 1").click()
    form.get_by_label("Switched off").uncheck()
    form.get_by_role("button", name="Save").click()
    expect(form).to_have_count(0)
    assert api.get(f"{ALERTS}/{alert['id']}").json()["data"]["channels"] == [*channels[1:4], "pagerduty"]


def test_deliveries_are_looked_through_page_by_page(look: Look, api: httpx.Client) -> None:
    alert = made_alert(api, channels=["slack"] * 20)
    for _ in range(3):
        assert api.post(f"{ALERTS}/{alert['id']}/test", json={}).status_code == 202
    page = look(f"/alerts/{alert['id']}")
    rows = panel(page, "Deliveries").locator("tbody tr")
    expect(rows).to_have_count(50)
    expect(rows.filter(has_text="not_configured")).to_have_count(50)
    page.get_by_role("button", name="Older").click()
    expect(rows).to_have_count(10)
    expect(page.get_by_role("button", name="Older")).to_be_disabled()
    page.get_by_role("button", name="Newer").click()
    expect(rows).to_have_count(50)


def test_an_alert_of_another_tenant_leads_to_no_logs_of_ours(look: Look, api: httpx.Client) -> None:
    alert = made_alert(api, tenant_id=unique("team"), filter={"service": "shop"})
    page = look("/alerts")
    expect(page.locator("tbody tr")).to_contain_text(alert["tenant_id"])
    page.get_by_role("link", name=alert["name"]).click()
    expect(page.get_by_text("are those of another tenant")).to_be_visible()
    expect(page.get_by_role("link", name="The logs it counts")).to_have_count(0)


@pytest.mark.parametrize("width", [1_440, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_of_others_are_only_text(look: Look, api: httpx.Client, width: int, scheme: str) -> None:
    names = [*HOSTILE, "x" * 255, "\u202e" + "long words " * 22]
    made = [
        made_alert(
            api, name=name, description=name, threshold=4, filter={"search": name, "metadata": {name: name}},
            channels=[{"type": "webhook", "url": "https://hooks.example.org/" + "u" * 300}],
        )
        for name in names
    ]  # fmt: skip
    page = look("/alerts", width=width, scheme=scheme)
    expect(page.locator("tbody tr")).to_have_count(len(names))
    for name in names:
        assert name.split()[0] in page.locator("tbody").inner_text()
    assert page.evaluate(MARKUP) == 0
    assert fits(page)
    assert findings(page) == []
    for alert in made:
        page.goto(page.url.split("/alerts")[0] + f"/alerts/{alert['id']}")
        expect(page.locator(".fields", has_text="Counts")).to_be_visible()
        page.get_by_role("button", name="Edit").click()
        expect(page.get_by_label("Name")).to_have_value(alert["name"])
        assert fits(page)
        assert page.evaluate(MARKUP) == 0
    assert findings(page) == []


def test_an_alert_that_is_not_there_is_said_so(look: Look) -> None:
    refused(look, 400, 404)
    page = look(f"/alerts/{uuid.uuid4()}")
    expect(page.get_by_text("Alert not found")).to_be_visible()
    page.goto(page.url.rsplit("/", 1)[0] + "/five")
    expect(page.get_by_text("Invalid alert ID format")).to_be_visible()
    page.get_by_role("link", name="All alerts").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Alerts")


def test_an_open_server_has_nobody_to_log_out(look: Look) -> None:
    page = look("/keys")
    expect(page.get_by_role("button", name="Create")).to_be_visible()
    expect(page.get_by_role("button", name="Log out")).to_have_count(0)
    expect(page.get_by_text("This server has no key")).to_be_visible()
    look_up = page.get_by_role("form", name="Look a tenant up")
    look_up.get_by_label("Name of a tenant").fill("team-a")
    look_up.get_by_role("button", name="Look up").click()
    expect(panel(page, "Tenants").get_by_role("status")).to_have_text(re.compile("team-a is [0-9a-f-]{36}"))
