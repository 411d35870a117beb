"""Gaps that open and close, replays, dead letters, and every fault from its button to its report."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.stack import Stack
from tests.eventually import eventually_sync

Look = Callable[..., Page]
HEALS_MS = 60_000


def send(api: httpx.Client, service: str, *numbers: int, text: str = "line") -> dict[str, Any]:
    batch = [{"seq": seq, "message": f"{text} {seq}"} for seq in numbers]
    answer = api.post("/ingest", json={"service": service, "batch": batch})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def sign_off(api: httpx.Client, service: str, missing: int) -> None:
    """Signs all of a test's gaps off, so that the proof the tests share balances again. A number whose job is
    still on its way is not signed off: it is asked for again."""
    left = missing

    def signed() -> bool:
        nonlocal left
        for row in api.get("/replay", params={"status": "pending", "limit": 1000}).json()["replays"]:
            if row["service"].startswith(service):
                left -= int(
                    api.post(f"/replay/{row['id']}/abandon", json={}).raise_for_status().json()["lost"]
                )
        return left == 0

    eventually_sync(signed, 20)


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def legend(page: Page, kind: str) -> Locator:
    return page.locator(f".legend [data-kind={kind}]")


def test_gap_is_seen_opening_and_healing(look: Look, api: httpx.Client) -> None:
    service = unique("gap")
    send(api, service, *range(1, 11))
    page = look(f"/services/{service}")
    expect(legend(page, "stored")).to_have_attribute("data-ranges", "1")
    before = page.locator("canvas.strip").evaluate("canvas => canvas.toDataURL()")
    send(api, service, *range(15, 21))
    open_gap = page.get_by_text(re.compile(r"Open:\s*11 – 14"))
    expect(open_gap).to_be_visible()
    expect(page.locator(".figure", has_text="Missing").locator("dd")).to_have_text(re.compile("^4"))
    expect(page.locator(".figure", has_text="Acknowledged till").locator("dd")).to_have_text(
        re.compile("^10")
    )
    assert page.locator("canvas.strip").evaluate("canvas => canvas.toDataURL()") != before
    page.get_by_role("button", name="First gap").click()
    strip = page.locator("canvas.strip")
    strip.focus()
    label = strip.get_attribute("aria-label")
    page.keyboard.press("+")
    expect(strip).not_to_have_attribute("aria-label", label or "")
    page.keyboard.press("0")
    expect(page.get_by_role("button", name="Whole line")).to_be_disabled()
    send(api, service, 11, 12, 13, 14)
    expect(open_gap).to_have_count(0)
    expect(legend(page, "stored")).to_have_attribute("data-ranges", "1")
    expect(page.locator(".figure", has_text="Acknowledged till").locator("dd")).to_have_text(
        re.compile("^20")
    )


def test_replay_is_asked_for_by_hand(look: Look, api: httpx.Client) -> None:
    watched: Any = look
    watched.expected = re.compile("status of 404")  # the browser's own word for the refusal below
    service = unique("replay")
    send(api, service, 1, 2, 3)
    page = look(f"/replay?service={service}")
    expect(page.get_by_text("No replay is like this.")).to_be_visible()
    form = page.locator("form")
    status = form.locator("[role=status]")
    for start, end, says in (
        ("0", "3", "at least 1"),
        ("x", "3", "at least 1"),
        ("3", "2", "not below from"),
    ):
        form.get_by_label("From").fill(start)
        form.get_by_label("To").fill(end)
        form.get_by_role("button", name="Replay").click()
        expect(status).to_contain_text(says)
    form.get_by_label("Service of the range").fill(service + "-unknown")
    form.get_by_label("To").fill("3")
    form.get_by_role("button", name="Replay").click()
    expect(status).to_contain_text("No log of this service")
    form.get_by_label("Service of the range").fill(service)
    form.get_by_label("From").fill("1")
    form.get_by_role("button", name="Replay").click()
    expect(status).to_contain_text(re.compile(r"Replay \d+ was asked for"))
    row = page.locator("tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("hand")
    expect(row).to_contain_text("completed", timeout=20_000)


def test_gap_is_signed_off_as_lost(look: Look, api: httpx.Client) -> None:
    service = unique("lost")
    send(api, service, 1, 5)
    page = look(f"/replay?service={service}")
    row = page.locator("tbody tr")
    expect(row).to_have_count(1)
    row.get_by_role("button", name="Sign off").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("signed by the operator")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    row.get_by_role("button", name="Sign off").click()
    dialog.get_by_role("button", name="Sign off as lost").click()
    expect(row).to_contain_text("lost")
    expect(row.get_by_role("button", name="Sign off")).to_have_count(0)
    page.get_by_role("button", name=re.compile("^Pending")).click()
    expect(page).to_have_url(re.compile("status=pending"))
    expect(page.get_by_text("No replay is like this.")).to_be_visible()
    page.goto(page.url.split("/replay")[0] + f"/services/{service}")
    expect(legend(page, "lost")).to_have_attribute("data-ranges", "1")
    expect(page.locator(".proof")).to_contain_text("3 lost, signed off")
    expect(page.locator(".proof")).to_have_attribute("data-balanced", "true")


def test_dead_letter_is_shown_and_discarded(look: Look, api: httpx.Client) -> None:
    service = unique("letter")
    send(api, service, 1)
    send(api, service, 1, text="something else")
    page = look("/queue")
    letter = page.locator(".fault", has_text=service)
    expect(letter).to_contain_text("conflict")
    letter.locator("summary").first.click()
    expect(letter).to_contain_text("something else 1")
    letter.get_by_role("button", name="Discard").click()
    letter.get_by_role("button", name="Discard for good").click()
    expect(letter).to_have_count(0)


def healed(page: Page, action: str) -> None:
    report = page.locator(f"[data-fault={action}] .report")
    expect(report).to_have_attribute("data-healed", "true", timeout=HEALS_MS)
    expect(report).to_contain_text(re.compile(r"Healed in .*: lost 0, stored twice 0\."))


def press(page: Page, action: str) -> None:
    page.locator(f"[data-fault={action}] button").click()


def test_crashed_worker_heals_before_ones_eyes(look: Look) -> None:
    page = look("/queue")
    page.get_by_role("button", name="Faults").click()
    press(page, "crash_worker")
    happened = page.locator("section", has_text="What happened")
    expect(happened).to_contain_text(re.compile(r"worker-\d crashed; back in"))
    healed(page, "crash_worker")
    expect(happened).to_contain_text(re.compile(r"worker-\d is back after"))
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("button", name="Faults")).to_be_focused()
    page.get_by_role("button", name="Faults").click()
    healed(page, "crash_worker")  # a report outlives its panel
    page.get_by_role("button", name="Close").click()
    expect(page.locator("tbody tr", has_text="worker-")).to_have_count(2)
    expect(page.locator("tbody tr", has_text="dead")).to_have_count(0)


@pytest.mark.parametrize("action", ["drop_network", "delay_ack", "flush_queue"])
def test_fault_runs_and_heals(look: Look, action: str) -> None:
    page = look("/")
    page.get_by_role("button", name="Faults").click()
    press(page, action)
    if action != "flush_queue":
        expect(page.locator(f"[data-fault={action}]")).to_contain_text(re.compile(r"on for another \d+ s"))
        expect(page.locator("section", has_text="Running faults")).to_contain_text(action.replace("_", " "))
    healed(page, action)
    page.keyboard.press("Escape")
    expect(page.locator(".proof")).to_have_attribute("data-balanced", "true", timeout=HEALS_MS)


def test_reset_ends_what_is_on(look: Look) -> None:
    page = look("/")
    page.get_by_role("button", name="Faults").click()
    press(page, "delay_ack")
    expect(page.locator("[data-fault=delay_ack]")).to_contain_text("on for another")
    press(page, "reset")
    expect(page.locator("[data-fault=delay_ack]")).not_to_contain_text("on for another")
    healed(page, "delay_ack")


def test_dialog_stays_while_rows_move_behind_it(look: Look, api: httpx.Client) -> None:
    service = unique("moves")
    send(api, service, 1, 3)
    page = look("/replay?status=pending")
    page.locator("tbody tr", has_text=service).get_by_role("button", name="Sign off").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(service)
    for n in range(55):
        send(api, f"{service}-{n}", 1, 3)
    expect(page.locator("tbody tr", has_text=f"{service}-54")).to_have_count(1)
    expect(dialog).to_contain_text(service)
    dialog.get_by_role("button", name="Sign off as lost").click()
    expect(dialog).to_have_count(0)
    assert api.get("/replay", params={"service": service}).json()["replays"][0]["status"] == "lost"
    sign_off(api, service, missing=55)


def test_older_epochs_can_be_looked_at(look: Look, api: httpx.Client) -> None:
    service = unique("epochs")
    send(api, service, 1, 2, 3)
    batch = [{"seq": 1, "message": "begun anew"}]
    assert api.post("/ingest", json={"service": service, "epoch": 7, "batch": batch}).status_code == 200
    page = look(f"/services/{service}")
    label = page.locator("canvas.strip")
    expect(label).to_have_attribute("aria-label", re.compile("from 1 to 1:"))
    page.get_by_role("combobox", name="Epoch").select_option("0")
    expect(label).to_have_attribute("aria-label", re.compile("from 1 to 3:"))


def sql(stack: Stack, text: str) -> None:
    """In a process of its own: the browser's event loop runs in this one."""
    code = (
        "import asyncio, asyncpg, sys\n"
        "async def run():\n"
        "    connection = await asyncpg.connect(sys.argv[1], ssl=False)\n"
        "    await connection.execute(sys.argv[2])\n"
        "    await connection.close()\n"
        "asyncio.run(run())"
    )
    subprocess.run([sys.executable, "-c", code, stack.database_url, text], check=True, timeout=60)


def test_dead_letter_is_stored_after_all(look: Look, api: httpx.Client, stack: Stack) -> None:
    service = unique("poison")
    watched: Any = look
    watched.expected = re.compile("status of 409")  # the browser's own word for the refusal below
    sql(stack, f"alter table logs add constraint no_poison check (message <> '{service} 2') not valid")
    try:
        send(api, service, 1, 2, 3, text=service)
        page = look("/queue")
        letter = page.locator(".fault", has_text=service)
        expect(letter).to_have_count(1)
        letter.get_by_role("button", name="Retry").click()
        expect(letter.get_by_role("alert")).to_contain_text("the store still refuses this entry")
    finally:
        sql(stack, "alter table logs drop constraint no_poison")
    letter.get_by_role("button", name="Retry").click()
    expect(letter).to_have_count(0)
    assert api.get(f"/ack/{service}").json()["lostCount"] == 0


def test_long_tables_are_leafed_through(look: Look, api: httpx.Client) -> None:
    """Replays and dead letters, fifty a page; a page that has become empty leads back."""
    service = unique("pages")
    send(api, service, *range(1, 106, 2))
    send(api, service, *range(1, 106, 2), text="changed")
    page = look(f"/replay?service={service}")
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_role("button", name="Older").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_role("button", name="Newer").click()
    expect(page.locator("tbody tr")).to_have_count(50)
    page.goto(page.url.split("/replay")[0] + "/queue")
    letters = page.locator("section", has_text="Dead letters").locator(".fault")
    expect(letters).to_have_count(50)
    page.get_by_role("button", name="Older").click()
    expect(letters).to_have_count(3)
    for left in (2, 1, 0):
        letters.first.get_by_role("button", name="Discard").click()
        letters.first.get_by_role("button", name="Discard for good").click()
        expect(letters).to_have_count(left)
    expect(page.get_by_text("No more are here.")).to_be_visible()
    page.get_by_role("button", name="Newer").click()
    expect(letters).to_have_count(50)
    for letter in api.get("/dead-letters", params={"service": service, "limit": 1000}).json()["deadLetters"]:
        api.request("DELETE", f"/dead-letters/{letter['id']}", json={})
    sign_off(api, service, missing=52)


def test_strip_is_zoomed_and_moved_by_mouse(look: Look, api: httpx.Client) -> None:
    service = unique("zoom")
    send(api, service, *range(1, 1001))
    page = look(f"/services/{service}")
    strip = page.locator("canvas.strip")
    shown = page.locator(".small", has_text=re.compile(r"^1 – 1,000"))
    expect(shown).to_be_visible()
    page.get_by_role("button", name="Zoom in").click()
    expect(strip).to_have_attribute("aria-label", re.compile("from 251 to 7[45]"))
    box = strip.bounding_box()
    assert box is not None
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + box["width"] / 4, middle[1], steps=4)
    page.mouse.up()
    expect(strip).to_have_attribute("aria-label", re.compile("from 12[0-9] to 62[0-9]"))
    expect(page.get_by_text(re.compile(r"at \d+: stored"))).to_be_visible()
    page.mouse.wheel(0, 400)
    expect(strip).not_to_have_attribute("aria-label", re.compile("from 12[0-9] to 62[0-9]"))
    page.get_by_role("button", name="Zoom out").click()
    page.get_by_role("button", name="Whole line").click()
    expect(shown).to_be_visible()
