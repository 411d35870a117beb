"""Keys on a page: the first one of an open server, those that an admin makes, and what others see instead.

Each server is its own: a key closes what it grants, and the server of the other tests is open.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Watched, watching
from tests.browser.test_logs import HOSTILE, MARKUP, unique
from tests.browser.test_pages import findings
from tests.e2e.stack import Stack
from tests.eventually import eventually_sync

ADMIN, READ = "th_" + "a" * 40, "th_" + "r" * 40
SECRET = re.compile(r"^th_[0-9A-Za-z]{40}$")
CLIPBOARD = ["clipboard-read", "clipboard-write"]


def running(folder: Path, **settings: str) -> Iterator[Stack]:
    made = Stack(folder)
    try:
        made.start(**settings)
        yield made
    finally:
        print(made.tails())
        made.end()


@pytest.fixture(scope="module")
def closed(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server that knows an admin and a reader by its environment."""
    folder = tmp_path_factory.mktemp("closed")
    yield from running(folder, TRACEHUB_ADMIN_KEY=ADMIN, TRACEHUB_READ_KEY=READ)


@pytest.fixture
def fresh(browser: Browser, tmp_path: Path) -> Iterator[Stack]:
    """A server without any key, for one test."""
    yield from running(tmp_path)


@pytest.fixture
def look(browser: Browser, closed: Stack, request: pytest.FixtureRequest) -> Iterator[Watched]:
    with watching(browser, closed.http, request.node.name) as watched:
        yield watched


def status(stack: Stack, key: str, path: str = "/services") -> int:
    return httpx.get(
        stack.http + path, headers={"Authorization": f"Bearer {key}"}, trust_env=False
    ).status_code


def log_in(page: Page, key: str) -> None:
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Log in").click()


def test_a_key_is_made_shown_once_and_revoked(look: Watched, closed: Stack) -> None:
    look.expected = re.compile("status of 400")
    page = look("/keys", permissions=CLIPBOARD)
    log_in(page, ADMIN)
    expect(page).to_have_url(re.compile("/keys$"))
    form = page.get_by_role("form", name="New key")
    form.get_by_role("button", name="Create").click()
    expect(form.get_by_label("Name")).to_have_attribute("aria-invalid", "true")
    name, tenant = unique("shop"), unique("team")
    form.get_by_label("Name").fill(name)
    form.get_by_label("Tenant").fill("a b")
    form.get_by_role("button", name="Create").click()
    expect(form.get_by_label("Tenant")).to_have_attribute("aria-invalid", "true")
    form.get_by_label("Tenant").fill(tenant)
    form.get_by_label("Service").fill("shop")
    form.get_by_label("Entries per second").fill("many")
    form.get_by_role("button", name="Create").click()
    expect(form.get_by_label("Entries per second")).to_have_attribute("aria-invalid", "true")
    assert findings(page) == []
    form.get_by_label("Entries per second").fill("2.5")
    form.get_by_label("Expires").fill("2001-01-01T00:00:00")
    form.get_by_role("button", name="Create").click()
    expect(form.get_by_label("Expires")).to_have_attribute("aria-invalid", "true")
    form.get_by_label("Expires").fill("2999-01-01T00:00:00")
    form.get_by_label("write", exact=True).uncheck()
    form.get_by_role("button", name="Create").click()
    expect(form.get_by_role("alert")).to_contain_text("admin, read, write")
    form.get_by_label("write", exact=True).check()
    form.get_by_label("read", exact=True).check()
    for door in ("ingest", "logs"):
        form.get_by_label(door, exact=True).check()
    form.get_by_role("button", name="Create").click()

    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(name)
    key = dialog.locator(".secret").inner_text()
    assert SECRET.match(key)
    dialog.get_by_role("button", name="Copy").click()
    expect(dialog.get_by_role("status")).to_have_text("Key copied")
    assert page.evaluate("navigator.clipboard.readText()") == key
    page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    assert findings(page) == []
    dialog.get_by_role("button", name="I have it").click()
    row = page.locator("tbody tr", has_text=name)
    expect(row).to_contain_text(re.compile(r"write, read.*shop.*ingest, logs.*2999-01-01", re.DOTALL))
    assert key not in page.content()
    page.reload()
    expect(row).to_be_visible()
    assert key not in page.content()
    assert status(closed, key) == 200
    tenant_id = row.locator(".mono").inner_text()
    look_up = page.get_by_role("form", name="Look a tenant up")
    look_up.get_by_label("Name of a tenant").fill(tenant)
    look_up.get_by_role("button", name="Look up").click()
    expect(page.get_by_role("status").filter(has_text=tenant)).to_contain_text(tenant_id)
    expect(page.locator("tr[aria-current]")).to_contain_text(tenant_id)

    row.get_by_role("button", name="Revoke").click()
    expect(dialog).to_contain_text(name)
    dialog.get_by_role("button", name="Keep it").click()
    row.get_by_role("button", name="Revoke").click()
    dialog.get_by_role("button", name="Revoke it").click()
    expect(row).to_have_count(0)
    eventually_sync(lambda: status(closed, key) == 401, 5)


def test_who_may_read_sees_sentences_instead_of_forms(look: Watched) -> None:
    page = look("/keys")
    expect(page).to_have_url(re.compile(r"/login\?next=/keys"))
    log_in(page, READ)
    expect(page.get_by_text("Seeing and changing keys needs an admin key.")).to_be_visible()
    for path, sentence in {
        "/retention": "Changing policies, and seeing and starting runs, needs an admin key.",
        "/alerts": "Making and changing alerts needs an admin key.",
    }.items():
        page.get_by_role("link", name=path.strip("/").title()).click()
        expect(page.get_by_text(sentence)).to_be_visible()
        expect(page.get_by_text(re.compile("^Loading"))).to_have_count(0)
        expect(page.get_by_role("form")).to_have_count(0)
        expect(page.locator("main").get_by_role("button")).to_have_count(0)
        assert findings(page) == []


def test_an_alert_shows_a_reader_no_secret_and_no_buttons(look: Watched, closed: Stack) -> None:
    channel = {"type": "webhook", "url": "https://hooks.example.org/a", "secret": "s3cret"}
    body = {"name": unique("alert"), "filter": {}, "threshold": 10**9, "channels": [channel]}
    headers = {"Authorization": f"Bearer {ADMIN}"}
    with httpx.Client(base_url=closed.http, headers=headers, trust_env=False) as admin:
        alert = admin.post("/api/v1/alerts", json=body).json()["data"]
        page = look(f"/alerts/{alert['id']}")
        log_in(page, READ)
        expect(page.get_by_role("heading", level=1)).to_have_text(body["name"])
        expect(page.get_by_text("Changing it needs an admin key.")).to_be_visible()
        expect(page.get_by_text("Nothing was sent in the last 30 days.")).to_be_visible()
        expect(page.locator("main").get_by_role("button")).to_have_count(0)
        assert "s3cret" not in page.content()
        assert admin.request("DELETE", f"/api/v1/alerts/{alert['id']}", json={}).status_code == 204


def test_logging_out_ends_the_log_in(look: Watched, closed: Stack) -> None:
    look.expected = re.compile("status of 401|WebSocket connection")
    page = look("/queue")
    log_in(page, READ)
    expect(page.get_by_role("heading", level=1)).to_have_text("Queue")
    (cookie,) = page.context.cookies()
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile(r"/login($|\?)"))
    assert page.context.cookies() == []
    stolen = {"cookie": f"{cookie['name']}={cookie['value']}"}
    assert httpx.get(closed.http + "/services", headers=stolen, trust_env=False).status_code == 401
    page.goto(closed.http + "/keys")
    expect(page).to_have_url(re.compile(r"/login\?next=/keys"))


@pytest.mark.parametrize("width", [1_440, 390])
def test_names_of_keys_are_only_text(look: Watched, closed: Stack, width: int) -> None:
    names = [*HOSTILE, "x" * 100]
    headers = {"Authorization": f"Bearer {ADMIN}"}
    with httpx.Client(base_url=closed.http, headers=headers, trust_env=False) as admin:
        made = [
            admin.post("/api/v1/keys", json={"name": name, "scopes": ["read"], "app_key": name}).json()[
                "data"
            ]
            for name in names
        ]
        page = look("/keys", width=width)
        log_in(page, ADMIN)
        expect(page.get_by_role("button", name=re.compile("^Revoke"))).to_have_count(len(names))
        assert page.evaluate(MARKUP) == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert findings(page) == []
        for key in made:
            assert admin.request("DELETE", f"/api/v1/keys/{key['id']}", json={}).status_code == 204


def test_the_first_key_of_an_open_server_is_not_lost(
    browser: Browser, fresh: Stack, request: pytest.FixtureRequest
) -> None:
    """It closes the page that shows it; that page stays until the key was taken."""
    with watching(browser, fresh.http, request.node.name) as look:
        look.expected = re.compile("status of 401|WebSocket connection")
        page = look("/keys")
        expect(page.get_by_text("This server has no key")).to_be_visible()
        expect(page.get_by_label("admin: everything")).to_be_checked()
        page.get_by_label("Name", exact=True).fill("first")
        page.get_by_role("button", name="Create").click()
        dialog = page.get_by_role("dialog")
        key = dialog.locator(".secret").inner_text()
        expect(page.locator(".top").get_by_role("alert")).to_contain_text("disconnected")
        expect(dialog).to_be_visible()
        dialog.get_by_role("button", name="I have it").click()
        expect(page).to_have_url(re.compile(r"/login\?ended=1&next=%2Fkeys"))
        log_in(page, key)
        expect(page).to_have_url(re.compile("/keys$"))
        row = page.locator("tbody tr", has_text="first")
        expect(row).to_contain_text("yours")
        row.get_by_role("button", name="Revoke").click()
        expect(page.get_by_role("dialog")).to_contain_text("the key that you are here with")
        page.get_by_role("button", name="Revoke it").click()
        expect(page.get_by_text("This server has no key")).to_be_visible()
        expect(page.get_by_role("button", name="Log out")).to_have_count(0)
