"""Live logs and their history, as somebody uses them who looks for something."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from typing import Any

import httpx
from playwright.sync_api import Locator, Page, expect

Look = Callable[..., Page]

MARKUP = (
    "document.querySelectorAll('main script, main img, main svg[onload], main a[href^=javascript]').length"
)
HOSTILE = (
    "<img src=x onerror=alert(1)><script>alert(2)</script>",
    "\x1b[31mred\x1b[0m \x1b]8;;javascript:alert(3)\x07link",
    "abc\u202egnp.exe\u2066\u2069\u200f",
    "{{7*7}} ${7*7} %s%n '\"`; DROP TABLE logs --",
    "javascript:alert(4)//</textarea><svg/onload=alert(5)>",
)


def send(api: httpx.Client, service: str, entries: list[dict[str, Any]], first: int = 1) -> None:
    batch = [{"seq": first + n, **entry} for n, entry in enumerate(entries)]
    answer = api.post("/ingest", json={"service": service, "batch": batch})
    assert answer.status_code == 200, answer.text


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def pressed(page: Page, level: str) -> Locator:
    return page.get_by_role("group", name="Levels").get_by_role("button", name=level, exact=True)


def test_rows_arrive_pause_and_go_on(look: Look) -> None:
    page = look("/live-logs")
    rows = page.locator(".log-row")
    expect(rows.nth(5)).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    resume = page.get_by_role("button", name=re.compile(r"^Resume: [1-9]"))
    expect(resume).to_be_visible()
    shown = page.locator("[role=status]").first.inner_text()
    expect(resume).to_have_text(re.compile(r": ([2-9]\d|\d{3,}) new entries"))
    assert page.locator("[role=status]").first.inner_text() == shown
    page.get_by_role("button", name="Jump to the latest").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(page.locator("[role=status]").first).not_to_have_text(shown)


def test_scrolling_back_pauses(look: Look) -> None:
    page = look("/live-logs")
    listing = page.locator(".log-list")
    expect(page.locator(".log-row").nth(40)).to_be_attached(timeout=30_000)
    listing.hover()
    page.mouse.wheel(0, -400)
    expect(page.get_by_role("button", name=re.compile("Resume"))).to_be_visible()


def test_filters_live_in_the_address(look: Look, api: httpx.Client) -> None:
    page = look("/live-logs")
    expect(page.locator(".log-row").first).to_be_visible()
    page.get_by_label("Service").fill("auth")
    pressed(page, "warning").click()
    pressed(page, "error").click()
    page.get_by_label("Text").fill("a")
    expect(page).to_have_url(re.compile(r"service=auth.*level=warning%2Cerror.*text=a"))
    service = unique("deep")
    page.goto(page.url.split("?")[0] + f"?service={service}&severity=17&text=needle")
    expect(page.get_by_label("Text")).to_have_value("needle")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    send(
        api, service, [{"level": "error", "message": "the Needle"}, {"level": "info", "message": "a needle"}]
    )
    expect(page.locator(".log-row")).to_have_count(1)
    expect(page.locator(".log-row")).to_contain_text("the Needle")


def test_row_opens_copies_and_is_followed(look: Look, api: httpx.Client) -> None:
    service = unique("detail")
    page = look(f"/live-logs?service={service}", permissions=["clipboard-read", "clipboard-write"])
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    entry = {
        "message": "found",
        "trace_id": "trace-1",
        "request_id": "req-1",
        "attrs": {"deep": {"er": [1, None]}},
    }
    send(
        api,
        service,
        [entry, {**entry, "message": "of the trace", "request_id": "req-2"}, {"message": "other"}],
    )
    expect(page.locator(".log-row")).to_have_count(3)
    page.get_by_title("Copy the trace ID trace-1").first.click()
    expect(page.locator(".log-trace").first).to_have_text("copied")
    assert page.evaluate("navigator.clipboard.readText()") == "trace-1"
    page.locator(".log-row").first.click()
    detail = page.locator(".log-detail")
    for name in ("id", "tenant_id", "service_name", "seq", "created_at", "trace_id", "request_id"):
        expect(detail.locator("dt", has_text=re.compile(f"^{name}$"))).to_be_visible()
    detail.locator("summary", has_text="deep").click()
    expect(detail.get_by_text("er:")).to_be_visible()
    detail.get_by_role("button", name="Copy as JSON").click()
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert (copied["message"], copied["metadata"]) == ("found", entry["attrs"])
    detail.get_by_role("button", name="Copy as curl").click()
    command = page.evaluate("navigator.clipboard.readText()")
    assert api.get(command.removeprefix("curl ")).json()["data"]["message"] == "found"
    detail.get_by_role("button", name="Follow this trace").click()
    expect(page).to_have_url(re.compile("trace_id=trace-1"))
    expect(page.locator(".log-row")).to_have_count(2)
    detail.get_by_role("button", name="Follow this request").click()
    expect(page.locator(".log-row")).to_have_count(1)
    page.get_by_role("button", name="Without Trace ID trace-1").click()
    page.get_by_role("button", name="Without Request ID req-1").click()
    expect(page.locator(".log-row")).to_have_count(3)


def test_history_finds_what_was_stored_before(look: Look, api: httpx.Client) -> None:
    service = unique("past")
    old = "2024-03-05T10:00:00Z"
    lines = [
        {"message": f"line {n}", "ts": old, "level": "error" if n == 300 else "info"} for n in range(1, 501)
    ]
    send(api, service, lines)
    page = look(f"/live-logs?service={service}&view=history")
    status = page.locator("[role=status]").first
    expect(status).to_contain_text("200 of 500 found, older ones follow")
    expect(page.locator(".log-row").first).to_contain_text("line 500")
    expect(page.locator(".log-row").first).to_contain_text("2024-03-05")
    for found in ("400 of 500 found", "500 found, all there are"):
        page.locator(".log-list").evaluate("element => { element.scrollTop = element.scrollHeight }")
        expect(status).to_contain_text(found)
    pressed(page, "error").click()
    expect(page.locator(".log-row")).to_have_count(1)
    send(api, service, [{"message": "after asking", "level": "error"}], first=501)
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator(".log-row")).to_have_count(2)
    page.locator(".log-row", has_text="line 300").click()
    page.get_by_role("button", name="Surrounding lines").click()
    expect(page.locator(".around [aria-current]")).to_contain_text("line 300")
    page.get_by_label("Time", exact=True).select_option(label="Between …")
    page.get_by_label("to", exact=True).fill("2024-03-05T00:00:00")
    expect(page.get_by_text("No logs found: nothing that is stored is like this.")).to_be_visible()


def test_surrounding_lines_are_those_before_and_after(look: Look, api: httpx.Client) -> None:
    service = unique("around")
    same = 1_700_000_000_000  # one moment for all of them
    send(api, service, [{"message": f"line {n}", "ts": same} for n in range(1, 101)])
    page = look(f"/live-logs?service={service}&view=history&text=line 50")
    page.locator(".log-row").first.click()
    page.get_by_role("button", name="Surrounding lines").click()
    lines = page.locator(".around li")
    expect(lines).to_have_count(31)
    numbers = [int(re.findall(r"line (\d+)", text)[0]) for text in lines.all_inner_texts()]
    assert numbers == list(range(35, 66))
    expect(page.locator(".around [aria-current]")).to_contain_text("line 50")


def test_hostile_text_is_only_text(look: Look, api: httpx.Client) -> None:
    """In every field that takes any text, live and from the store, on every page that shows it."""
    service = unique("hostile")
    fields = (
        "message", "level", "trace_id", "span_id", "request_id", "user_id", "category", "source", "host",
        "environment", "user_agent", "release",
    )  # fmt: skip
    limits = {"level": 20, "span_id": 32, "environment": 50, "trace_id": 64, "request_id": 64}
    entries = [
        {
            **{name: text[: limits.get(name, 100)] for name in fields},
            "attrs": {text: text, "list": [text, {text: 1}]},
        }
        for text in HOSTILE
    ]
    page = look(f"/live-logs?service={service}")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    send(api, service, entries)
    expect(page.locator(".log-row")).to_have_count(len(HOSTILE))
    for view in ("", "&view=history"):
        if view:
            page.goto(page.url + view)
            expect(page.locator(".log-row")).to_have_count(len(HOSTILE))
        for n in range(len(HOSTILE)):
            page.locator(".log-row").nth(n).click()
            expect(page.locator(".log-detail dl")).to_be_visible()
            markup = page.evaluate(MARKUP)
            assert markup == 0
            page.locator(".log-row").nth(n).click()
    shown = page.locator(".log-row span:last-child").all_text_contents()
    assert sorted(shown) == sorted(HOSTILE)
    # Marks that turn text around stay within their own cell.
    assert (
        page.locator(".log-row span:last-child").first.evaluate("e => getComputedStyle(e).unicodeBidi")
        == "isolate"
    )
    # A conflict puts the same text among the dead letters.
    send(api, service, [{**entry, "message": entry["message"] + " changed"} for entry in entries])
    page.goto(page.url.split("/live-logs")[0] + "/queue")
    letters = page.locator(".fault", has_text=service)
    expect(letters).to_have_count(len(HOSTILE))
    letters.first.locator("summary").first.click()
    assert page.evaluate(MARKUP) == 0
    while letters.count():
        left = letters.count()
        letters.first.get_by_role("button", name="Discard").click()
        letters.first.get_by_role("button", name="Discard for good").click()
        expect(letters).to_have_count(left - 1)


def test_known_name_means_itself_and_part_of_one_all_that_have_it(look: Look, api: httpx.Client) -> None:
    stem = unique("name")
    send(api, stem, [{"message": "short"}])
    send(api, stem + "-long", [{"message": "long"}])
    page = look(f"/live-logs?view=history&service={stem}")
    expect(page.locator(".log-row")).to_have_count(1)
    expect(page.locator(".log-row")).to_contain_text("short")
    page.get_by_label("Service").fill(stem[:-1])
    expect(page.locator(".log-row")).to_have_count(2)
    pressed(page, "error").click()
    expect(page.get_by_text("No logs found: nothing that is stored is like this.")).to_be_visible()


def test_going_back_undoes_what_was_pressed(look: Look, api: httpx.Client) -> None:
    service = unique("back")
    send(api, service, [{"message": "one", "trace_id": service}, {"message": "two"}])
    page = look(f"/live-logs?view=history&service={service}")
    expect(page.locator(".log-row")).to_have_count(2)
    page.locator(".log-row", has_text="one").click()
    page.get_by_role("button", name="Follow this trace").click()
    expect(page.locator(".log-row")).to_have_count(1)
    page.go_back()
    expect(page.locator(".log-row")).to_have_count(2)


def test_huge_entries_are_shown_in_part_and_opened_whole(look: Look, api: httpx.Client) -> None:
    service = unique("huge")
    wide = {f"list {n}": list(range(150)) for n in range(150)}
    send(api, service, [{"message": "x" * 200_000 + "end", "attrs": wide}])
    page = look(f"/live-logs?view=history&service={service}")
    row = page.locator(".log-row")
    expect(row).to_have_count(1)
    assert len(row.text_content() or "") < 2_000
    row.click()
    expect(page.locator(".log-detail dd", has_text="xend")).to_have_count(1)
    assert page.locator(".log-detail *").count() < 1_500
    page.locator(".log-detail").get_by_role("button", name="50 more").click()
    page.locator("summary", has_text="list 149").click()
    page.locator("details[open] details[open]").get_by_role("button", name="50 more").click()
    expect(page.get_by_text("149: ")).to_have_count(2)
