"""Looking for something in what is stored: bars over time, facets, saved searches, and what the page itself knows."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.test_pages import findings
from tests.e2e.stack import Stack
from tests.eventually import eventually_sync

Look = Callable[..., Page]
DAYS = 5


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def write(api: httpx.Client, entries: list[dict[str, Any]]) -> None:
    answer = api.post("/api/v1/logs/batch", json={"entries": entries})
    assert answer.status_code == 201, answer.text


@pytest.fixture
def written(api: httpx.Client) -> str:
    """A service with ten entries on each of five days before yesterday; on the third of them two are errors."""
    service = unique("searched")
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    write(
        api,
        [
            {
                "service_name": service,
                "message": f"line {n} of day {day}",
                "level": "error" if day == 3 and n < 2 else "notice" if n == 9 else "info",
                "timestamp": (noon - timedelta(days=10 - day, minutes=-n)).isoformat(),
                "host": f"web-{n % 2}",
                "environment": "production",
            }
            for day in range(1, DAYS + 1)
            for n in range(10)
        ],
    )
    return service


def bars(page: Page) -> Locator:
    return page.locator(".histogram svg")


def test_bars_show_when_and_are_looked_at_closer(look: Look, written: str) -> None:
    page = look(f"/live-logs?view=history&service={written}")
    expect(bars(page)).to_have_attribute("aria-label", re.compile("^Entries over time: 50 from"))
    expect(page.locator(".histogram .error")).to_have_count(1)
    expect(page.locator(".log-row")).not_to_have_count(0)
    # The bar with the errors is pressed: what is left is that stretch.
    box = page.locator(".histogram .error").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 1)
    expect(page.locator("figcaption")).to_contain_text("2 errors")
    page.mouse.down()
    page.mouse.up()
    expect(page).to_have_url(re.compile("from=.*to="))
    expect(page.locator("[role=status]").first).to_have_text(re.compile(r"^\d+ found, all there are"))
    expect(page.locator(".log-row", has_text="of day 3")).not_to_have_count(0)
    expect(page.locator(".log-row", has_text="of day 4")).to_have_count(0)
    page.go_back()
    expect(page.locator("[role=status]").first).to_have_text("50 found, all there are")
    # Across all of it, from right to left.
    whole = bars(page).bounding_box()
    assert whole
    page.mouse.move(whole["x"] + whole["width"] - 2, whole["y"] + 10)
    page.mouse.down()
    page.mouse.move(whole["x"] + 2, whole["y"] + 10, steps=4)
    page.mouse.up()
    expect(page).to_have_url(re.compile("from=.*to="))
    expect(page.locator("[role=status]").first).to_have_text("50 found, all there are")


def test_facets_count_and_become_part_of_the_question(look: Look, written: str) -> None:
    page = look(f"/live-logs?view=history&service={written}")
    facets = page.get_by_role("complementary", name="Facets")
    expect(facets.get_by_role("button", name="INFO 48")).to_be_visible()
    expect(facets.get_by_role("button", name=f"{written} 50")).to_be_visible()
    facets.get_by_text("Host", exact=True).click()
    facets.get_by_role("button", name="web-0 25").click()
    expect(page).to_have_url(re.compile("host=web-0"))
    expect(page.locator("[role=status]").first).to_have_text("25 found, all there are")
    facets.get_by_role("button", name="ERROR 1").click()
    expect(page.locator(".log-row")).to_have_count(1)
    page.get_by_role("button", name="Without Host web-0").click()
    expect(page.locator(".log-row")).to_have_count(2)
    page.get_by_role("button", name="Reset").click()
    expect(page).to_have_url(re.compile(r"\?view=history$"))


def test_levels_are_told_apart(look: Look, written: str) -> None:
    page = look(f"/live-logs?view=history&service={written}&level=notice")
    status = page.locator("[role=status]").first
    expect(status).to_have_text("5 found, all there are")
    levels = page.get_by_role("group", name="Levels")
    levels.get_by_role("button", name="info", exact=True).click()
    expect(status).to_have_text("48 found, all there are")
    levels.get_by_role("button", name="notice", exact=True).click()
    expect(status).to_have_text("43 found, all there are")


def test_searches_are_saved_and_taken_up_again(look: Look, written: str) -> None:
    page = look(f"/live-logs?view=history&service={written}&text=line 1 of&host=web-1")
    expect(page.locator(".log-row")).to_have_count(DAYS)
    name = "<b>mine</b> & only mine"
    page.get_by_text("Saved searches").click()
    page.get_by_label("Name of this search").fill(name)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Reset").click()
    expect(page.get_by_label("Text")).to_have_value("")
    page.reload()
    page.get_by_text("Saved searches (1)").click()
    page.get_by_role("link", name=name).click()
    expect(page.get_by_label("Text")).to_have_value("line 1 of")
    expect(page.locator(".log-row")).to_have_count(DAYS)
    page.get_by_text("Saved searches (1)").click()
    page.get_by_role("button", name=f"Forget {name}").click()
    page.reload()
    expect(page.get_by_text("Saved searches", exact=True)).to_be_visible()


def test_last_question_of_this_browser_is_asked_again_but_an_address_wins(look: Look, written: str) -> None:
    page = look(f"/live-logs?view=history&service={written}&level=error")
    expect(page.locator(".log-row")).to_have_count(2)
    page.goto(page.url.split("?")[0])
    expect(page.get_by_label("Service")).to_have_value(written)
    expect(page.locator(".log-row")).to_have_count(2)
    page.goto(page.url.split("?")[0] + f"?view=history&service={written}")
    expect(page.locator("[role=status]").first).to_have_text("50 found, all there are")


def test_answer_says_whether_it_is_complete(look: Look, api: httpx.Client) -> None:
    service = unique("holes")

    def send(*numbers: int) -> None:
        batch = [{"seq": seq, "message": f"line {seq}"} for seq in numbers]
        assert api.post("/ingest", json={"service": service, "batch": batch}).status_code == 200

    send(1, 4)
    page = look(f"/live-logs?view=history&service={service}")
    expect(page.locator(".head")).to_contain_text("not complete: 2 missing")
    page.locator(".head").get_by_role("link", name=service).click()
    expect(page).to_have_url(re.compile(f"/services/{service}$"))
    send(2, 3)
    page.goto(page.url.split("/services")[0] + f"/live-logs?view=history&service={service}")
    expect(page.locator(".head")).to_contain_text("complete: nothing is missing in it")
    expect(page.locator(".log-row")).to_have_count(4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_search_is_accessible_with_all_of_it_open(look: Look, written: str, scheme: str) -> None:
    page = look(f"/live-logs?view=history&service={written}&level=info,notice,error&last=30d", scheme=scheme)
    page.locator(".log-row").first.click()
    page.get_by_role("complementary", name="Facets").get_by_text("Host", exact=True).click()
    page.get_by_text("More filters").click()
    expect(page.get_by_label("Batch ID")).to_be_visible()
    assert findings(page) == []


def test_new_ones_are_announced_where_one_searches(look: Look, api: httpx.Client, written: str) -> None:
    page = look(f"/live-logs?view=history&service={written}&level=error")
    expect(page.locator(".log-row")).to_have_count(2)
    write(api, [{"service_name": written, "message": m, "level": m} for m in ("error", "info")])
    page.get_by_role("button", name="Ask again (1 new)").click()
    expect(page.locator(".log-row")).to_have_count(3)
    expect(page.get_by_role("button", name="Ask again", exact=True)).to_be_visible()


def test_names_are_those_of_all_doors(look: Look, api: httpx.Client) -> None:
    stem = unique("door")
    write(api, [{"service_name": stem, "message": "without a number"}] * 4)
    batch = [{"seq": 1, "message": "numbered"}]
    assert api.post("/ingest", json={"service": f"{stem}-numbered", "batch": batch}).status_code == 200
    page = look(f"/live-logs?view=history&service={stem}")
    status = page.locator("[role=status]").first
    expect(status).to_have_text("4 found, all there are")
    page.goto(page.url.replace(stem, stem[:-1]))
    expect(status).to_have_text("5 found, all there are")
    page.get_by_role("complementary", name="Facets").get_by_role("button", name=f"{stem} 4").click()
    expect(status).to_have_text("4 found, all there are")


def test_an_address_means_the_same_time_everywhere(look: Look, api: httpx.Client) -> None:
    """In Newfoundland the clock showed 01:01 to 01:59 twice that night."""
    service = unique("zone")
    times = [f"2026-11-01T{hour:02}:{minute:02}:00Z" for hour in (3, 4) for minute in (35, 40)]
    write(api, [{"service_name": service, "message": at, "timestamp": at} for at in times])
    page = look(f"/live-logs?view=history&service={service}", timezone_id="America/St_Johns")
    expect(page.locator(".log-row")).to_have_count(4)
    box = page.locator(".histogram .calm").last.bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 1)
    expect(page.locator(".log-row")).to_have_count(1)
    expect(page.locator(".log-row")).to_contain_text("2026-11-01T04:40:00Z")
    elsewhere = look("/" + page.url.split("/", 3)[3], timezone_id="Asia/Kathmandu")
    expect(elsewhere.locator(".log-row")).to_have_count(1)
    expect(elsewhere.locator(".log-row")).to_contain_text("2026-11-01T04:40:00Z")


def test_keys_move_open_and_close(look: Look, written: str) -> None:
    page = look(f"/live-logs?view=history&service={written}")
    rows = page.locator(".log-row")
    expect(rows.nth(5)).to_be_visible()
    for key in "jjjk":
        page.keyboard.press(key)
    expect(rows.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".log-detail")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".log-detail")).to_have_count(0)
    page.keyboard.press("/")
    expect(page.get_by_label("Text")).to_be_focused()
    page.keyboard.type("jk /")
    expect(page.get_by_label("Text")).to_have_value("jk /")


def test_space_pauses_statistics_count_and_clear_begins_anew(look: Look, api: httpx.Client) -> None:
    service = unique("session")
    page = look(f"/live-logs?service={service}")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    write(api, [{"service_name": service, "message": "one", "level": "critical"}] * 30)
    expect(page.locator(".log-row").first).to_be_visible()
    page.get_by_role("button", name="Statistics").click()
    drawer = page.get_by_role("region", name="Live statistics")
    expect(drawer.locator("li", has_text="critical")).to_contain_text("30")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".log-row")).to_have_count(0)
    expect(drawer.locator("li", has_text="critical")).to_contain_text("0")
    expect(drawer.locator("dd").first).not_to_have_text("0")  # the others go on
    page.locator("h1").click()
    page.keyboard.press(" ")
    expect(page.get_by_role("button", name=re.compile("^Resume"))).to_be_visible()
    page.keyboard.press("j")  # whatever has the focus then
    page.keyboard.press(" ")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.get_by_role("button", name="History").click()
    expect(page.get_by_role("heading", name="Logs", exact=True)).to_be_visible()
    page.locator("h1").click()
    page.keyboard.press(" ")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


def test_lines_for_programs_are_copied_and_work(look: Look, api: httpx.Client) -> None:
    page = look("/live-logs", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Connect").click()
    page.get_by_role("button", name="Copy curl").click()
    expect(page.get_by_role("status").filter(has_text="copied")).to_be_visible()
    command = page.evaluate("navigator.clipboard.readText()")
    address = re.findall(r'"(http[^"]+)"', command)[0]
    assert api.get(address).json()["success"] is True
    expect(page.get_by_text(re.compile(r"^ws://.*/ws\?token=\$TRACEHUB_KEY$"))).to_be_visible()


def test_what_came_while_the_connection_was_away_is_fetched(
    look: Look, api: httpx.Client, stack: Stack
) -> None:
    service = unique("away")
    page = look(f"/live-logs?service={service}")
    look.expected = re.compile("WebSocket|ERR_CONNECTION|Failed to load")  # type: ignore[attr-defined]
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    write(api, [{"service_name": service, "message": "before"}])
    expect(page.locator(".log-row")).to_have_count(1)
    page.context.set_offline(True)
    page.evaluate("window.dispatchEvent(new Event('offline'))")
    expect(page.get_by_text(re.compile("^disconnected for"))).to_be_visible()
    write(api, [{"service_name": service, "message": f"while away {n}"} for n in range(3)])
    eventually_sync(
        lambda: api.get("/api/v1/logs", params={"service": service}).json()["data"]["total_count"] == 4
    )
    page.context.set_offline(False)
    expect(page.locator(".log-row")).to_have_count(4)
    write(api, [{"service_name": service, "message": "after"}])
    expect(page.locator(".log-row")).to_have_count(5)


def test_pages_of_a_size_are_turned(look: Look, written: str) -> None:
    page = look(f"/live-logs?view=history&service={written}&size=25")
    rows = page.locator(".log-row")
    expect(page.get_by_text(re.compile(r"^Showing 1–\d+ of 50 results$"))).to_be_visible()
    expect(rows.first).to_contain_text("line 9 of day 5")
    expect(page.get_by_role("button", name="Previous")).to_be_disabled()
    page.locator(".log-list").evaluate("(list) => (list.scrollTop = list.scrollHeight)")
    expect(page.get_by_text(re.compile(r"^Showing (?!1–)\d+–25 of 50 results$"))).to_be_visible()
    page.get_by_role("button", name="Next").click()
    expect(rows.first).to_contain_text("line 4 of day 3")
    expect(page.get_by_text(re.compile(r"^Showing 26–\d+ of 50 results$"))).to_be_visible()
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    page.get_by_label("Rows a page").select_option("100")
    expect(rows.first).to_contain_text("line 9 of day 5")
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    assert "size=100" in page.url


def test_enter_searches_what_is_stored_and_live_keeps_the_filters(look: Look, written: str) -> None:
    page = look("/live-logs")
    page.get_by_label("Service").fill(written)
    page.get_by_label("Service").press("Enter")
    expect(page).to_have_url(re.compile("view=history"))
    expect(page.locator("[role=status]").first).to_have_text("50 found, all there are")
    page.get_by_role("button", name="Live", exact=True).click()
    expect(page.get_by_label("Service")).to_have_value(written)


def test_times_are_told_exactly_or_as_ages(look: Look, written: str) -> None:
    page = look(f"/live-logs?view=history&service={written}")
    time = page.locator(".log-row span").first
    expect(time).to_have_text(re.compile(r"^\d{4}-\d\d-\d\d \d\d:"))
    page.get_by_role("button", name="Relative times").click()
    expect(time).to_have_text(re.compile(r"^\d+ d ago$"))
    expect(time).to_have_attribute("title", re.compile(r"^\d{4}-.*Z UTC, here "))
    page.reload()
    expect(time).to_have_text(re.compile(r"^\d+ d ago$"))


def test_part_of_a_user_agent_is_enough(look: Look, api: httpx.Client) -> None:
    key = unique("agents")
    logs = [{"message": "by the robot", "user_agent": "Robot/7 (Linux)"}, {"message": "by the browser"}]
    told = api.post(
        "/api/logs", json={"app_key": key, "app_id": "a", "logs": logs}, headers={"User-Agent": "Browser/1"}
    )
    assert told.status_code == 201, told.text
    page = look(f"/live-logs?view=history&service={key}&user_agent=robot")
    expect(page.locator(".log-row")).to_have_count(1)
    expect(page.locator(".log-row")).to_contain_text("by the robot")
