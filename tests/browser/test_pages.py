"""Every page as it is opened: directly, in both themes, on a desk and on a phone."""

from __future__ import annotations

import json
import os
import re
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, ROOT, WIDE
from tests.e2e.stack import Stack
from tests.eventually import eventually_sync

AXE = ROOT / "apps" / "dashboard" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = {
    "/": "Overview",
    "/live-logs": "Live logs",
    "/live-logs?view=history": "Logs",
    "/services": "Services",
    "/services/auth-svc": "auth-svc",
    "/replay": "Replay",
    "/queue": "Queue",
    "/alerts": "Alerts",
    "/retention": "Retention",
    "/keys": "Keys and tenants",
}

Look = Callable[..., Page]


def findings(page: Page) -> list[dict[str, Any]]:
    """What axe finds serious or critical."""
    page.evaluate(AXE.read_text())
    found = page.evaluate(
        "axe.run().then(r => r.violations.map(v => [v.id, v.impact, v.nodes.map(n => n.html)]))"
    )
    return [finding for finding in found if finding[1] in ("serious", "critical")]


@pytest.mark.parametrize(("width", "scheme"), [(WIDE, "light"), (PHONE, "dark")])
@pytest.mark.parametrize("path", PAGES)
def test_page_opens_directly_and_is_accessible(look: Look, path: str, width: int, scheme: str) -> None:
    page = look(path, width=width, scheme=scheme)
    expect(page.get_by_role("heading", level=1)).to_have_text(PAGES[path])
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    expect(page.get_by_text(re.compile("^Loading"))).to_have_count(0)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert findings(page) == []
    for other in (WIDE, PHONE):
        page.set_viewport_size({"width": other, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
            f"the page is wider than its window of {other} px"
        )
    # Colours are those of a theme, whatever the width.
    page.emulate_media(color_scheme="dark" if scheme == "light" else "light")
    expect(page.locator(":root")).not_to_have_attribute("data-theme", scheme)
    assert [found for found in findings(page) if found[0] == "color-contrast"] == []


def test_what_does_not_balance_is_named_accessibly(look: Look, api: httpx.Client) -> None:
    service = f"unbalanced-{uuid.uuid4().hex[:8]}"
    for seq in (1, 3):
        assert api.post("/ingest", json={"service": service, "batch": [{"seq": seq}]}).status_code == 200
    page = look("/")
    expect(page.locator(".proof")).to_have_attribute("data-balanced", "false")
    expect(page.locator(".proof").get_by_role("link", name=service)).to_be_visible()
    assert findings(page) == []
    assert api.post("/ingest", json={"service": service, "batch": [{"seq": 2}]}).status_code == 200
    expect(page.locator(".proof")).to_have_attribute("data-balanced", "true")


def test_theme_can_be_chosen_and_is_kept(look: Look) -> None:
    page = look("/queue", scheme="light")
    page.get_by_role("button", name="Dark").click()
    page.reload()
    expect(page.get_by_role("button", name="Light")).to_be_visible()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_overview_shows_rates_services_workers_and_a_proof_that_balances(look: Look) -> None:
    page = look("/")
    proof = page.locator(".proof")
    expect(proof).to_have_attribute("data-balanced", "true")
    expect(proof).to_contain_text(re.compile(r"produced\s*=.*stored\s*\+.*buffers\s*\+.*lost", re.DOTALL))
    expect(page.locator("tbody tr", has_text="-svc")).to_have_count(3)
    expect(page.locator("tbody tr", has_text="worker-")).to_have_count(2)
    expect(page.locator(".uplot canvas")).to_be_visible()
    span = page.get_by_role("group", name="Time span")
    span.get_by_role("button", name="1 h").click()
    expect(span.get_by_role("button", name="1 h")).to_have_attribute("aria-pressed", "true")
    stored = page.locator(".figure", has=page.get_by_text("Stored", exact=True)).locator("dd")
    expect(stored).not_to_have_text(re.compile(r"^0\.0"), timeout=20_000)


def test_charts_and_events_of_before_are_there_when_a_page_opens(look: Look, api: httpx.Client) -> None:
    eventually_sync(lambda: len(api.get("/metrics/series").json()["at"]) > 3, 20)
    assert api.post("/metrics/control", json={"action": "reset"}).status_code in (200, 202)
    remembered = api.get("/metrics/series").json()
    assert {len(remembered[name]) for name in ("at", "received", "stored", "logs", "retry", "oldestMs")} == {
        len(remembered["at"])
    }
    assert remembered["at"] == sorted(remembered["at"])
    page = look("/queue")
    expect(page.locator("section", has_text="What happened")).to_contain_text("reset done")


def test_pages_are_reached_by_keyboard(look: Look) -> None:
    page = look("/")
    page.get_by_role("link", name="Queue").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/queue$"))
    expect(page.get_by_role("link", name="Queue")).to_have_attribute("aria-current", "page")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")


def test_services_are_filtered_and_lead_to_their_page(look: Look) -> None:
    page = look("/services")
    rows = page.locator("tbody tr")
    expect(rows.filter(has_text="auth-svc")).to_have_count(1)
    page.get_by_label("Filter by name").fill("AUTH")
    expect(rows).to_have_count(1)
    page.get_by_role("link", name="auth-svc").click()
    expect(page).to_have_url(re.compile("/services/auth-svc$"))
    expect(page.locator(".proof")).to_have_attribute("data-balanced", re.compile("true|false"))
    page.get_by_role("link", name="Its logs").click()
    expect(page.get_by_label("Service")).to_have_value("auth-svc")


@pytest.mark.parametrize(
    "path",
    [
        "/services/%25", "/services/a%25zz", "/services/%E0%A4%A", "/live-logs/", "/live-logs?severity=10&view=no",
        "/live-logs?view=history&from=x&to=y&severity=9999", "/replay?status=bogus&offset=1.5", "/replay?offset=99999",
    ],
)  # fmt: skip
def test_nonsense_in_an_address_breaks_nothing(look: Look, path: str) -> None:
    page = look(path)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_text("This page failed")).to_have_count(0)
    expect(page.get_by_text(re.compile("^Loading"))).to_have_count(0)
    expect(page.get_by_role("alert")).to_have_count(0)
    page.get_by_role("link", name="Queue").click()
    expect(page).to_have_title("Queue · TraceHub")


def test_page_says_so_when_the_backend_stands_still(look: Look, stack: Stack) -> None:
    page = look("/")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    pid = stack.pid("backend")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        expect(page.locator(".top").get_by_role("alert")).to_contain_text("no news from the server")
    finally:
        os.kill(pid, signal.SIGCONT)
    expect(page.get_by_text("live", exact=True)).to_be_visible()


def test_keyboard_reaches_the_content_first(look: Look) -> None:
    page = look("/")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent.trim()") == "To the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_what_is_not_there_says_so(look: Look, api: httpx.Client) -> None:
    watched: Any = look
    watched.expected = re.compile("status of 404")  # the browser's own word for it
    page = look("/nope/at/all")
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing is here")
    page.get_by_role("link", name="To the overview").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    asked = api.get("/nope/at/all", headers={"accept": "*/*"})
    assert (asked.status_code, asked.json()["error"]["code"]) == (404, "not_found")
    page.goto(str(api.base_url.join("/services/nobody")))
    expect(page.get_by_text("No log of a service of this name was ever received.")).to_be_visible()
    page.goto(page.url.replace("/services/nobody", "/live-logs?view=history&text=nobody-ever-said-this"))
    expect(page.get_by_text("No logs found: nothing that is stored is like this.")).to_be_visible()


def test_page_comes_back_after_the_backend(look: Look, stack: Stack, api: httpx.Client) -> None:
    watched: Any = look
    watched.expected = re.compile("WebSocket connection|Failed to load resource")
    page = look("/live-logs?service=auth")
    expect(page.locator(".log-row").first).to_be_visible()
    pid = stack.pid("backend")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    expect(page.get_by_role("alert")).to_contain_text("disconnected")
    eventually_sync(lambda: stack.pid("backend") not in (None, pid), 30)
    expect(page.get_by_text("live", exact=True)).to_be_visible(timeout=30_000)
    before = int(
        page.evaluate("document.querySelector('[role=status]').innerText").replace(",", "").split()[0]
    )

    def grows() -> bool:
        now = page.evaluate("document.querySelector('[role=status]').innerText")
        return int(now.replace(",", "").split()[0]) > before

    eventually_sync(grows, 30)


def test_policy_allows_no_inline_script(api: httpx.Client) -> None:
    policy = api.get("/").headers["content-security-policy"]
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts["script-src"] == "'self'"
    assert parts["default-src"] == "'none'"


def test_built_files_name_no_other_host() -> None:
    built = Path(ROOT / "apps" / "dashboard" / "dist")
    hosts = set()
    for file in built.rglob("*.*"):
        hosts |= set(re.findall(r"https?://[\w.-]+\.\w+", file.read_text(errors="replace")))
    # Names of XML vocabularies and of pages that explain an error; none of them is asked for.
    known = {"http://www.w3.org", "https://react.dev", "https://socket.io"}
    assert {host for host in hosts if host not in known} <= {"https://github.com"}, json.dumps(sorted(hosts))
