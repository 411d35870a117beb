"""What a page bears: a minute of 500 entries a second, and 100,000 rows that are scrolled through.

Its tasks stay short, and nothing grows but the rows it keeps, of which there are at most 100,000.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, CDPSession, Page, expect

from tests.e2e.stack import Stack

pytestmark = pytest.mark.soak

SECONDS, RATE, BATCH = 60, 500, 50
TASK_MS_MAX = 200
HEAP_GROWTH_MAX = 1.25
ROW_BYTES_MAX = 1_000
RING = 100_000
WATCH = """
    window.longTasks = [];
    new PerformanceObserver(list => {
        for (const task of list.getEntries()) window.longTasks.push(Math.round(task.duration));
    }).observe({ type: 'longtask' });
"""
# Scroll through everything within so many frames; how long the longest of them took, in ms.
SCROLL = """async () => {
    const list = document.querySelector('.log-list');
    const frame = () => new Promise(done => requestAnimationFrame(done));
    let longest = 0, rows = 0, before = performance.now();
    for (let step = 0; step <= 300; step += 1) {
        list.scrollTop = list.scrollHeight * (1 - step / 300);
        await frame();
        const now = performance.now();
        longest = Math.max(longest, now - before);
        before = now;
        rows = Math.max(rows, document.querySelectorAll('.log-row').length);
    }
    return [longest, rows];
}"""


def heap_bytes(session: CDPSession) -> int:
    session.send("HeapProfiler.collectGarbage")
    used: dict[str, Any] = session.send("Runtime.getHeapUsage")
    return int(used["usedSize"])


class Sender(threading.Thread):
    """RATE entries a second, in batches of BATCH, for as long as it is not stopped."""

    def __init__(self, http: str) -> None:
        super().__init__(daemon=True)
        self._http = http
        self.sent = 0
        self.stop = threading.Event()

    def run(self) -> None:
        service, due = f"flood-{uuid.uuid4().hex[:8]}", time.monotonic()
        with httpx.Client(base_url=self._http, trust_env=False, timeout=20) as client:
            while not self.stop.is_set():
                batch = [
                    {"seq": self.sent + n, "message": f"order {self.sent + n} was taken", "attrs": {"n": n}}
                    for n in range(1, BATCH + 1)
                ]
                if client.post("/ingest", json={"service": service, "batch": batch}).status_code == 200:
                    self.sent += BATCH
                due += BATCH / RATE
                self.stop.wait(max(0.0, due - time.monotonic()))


@pytest.mark.parametrize("path", ["/live-logs", "/"])
def test_page_stays_responsive_and_small(look: Callable[..., Page], api: httpx.Client, path: str) -> None:
    page = look(path)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.enable")
    sender = Sender(str(api.base_url))
    sender.start()
    try:
        page.wait_for_timeout(10_000)
        early, early_rows = heap_bytes(session), sender.sent
        page.evaluate(WATCH)
        page.wait_for_timeout((SECONDS - 10) * 1_000)
        tasks = page.evaluate("window.longTasks")
        late, late_rows = heap_bytes(session), sender.sent
    finally:
        sender.stop.set()
        sender.join(20)
    kept = late_rows - early_rows
    print(
        f"{path}: heap {early / 2**20:.1f} -> {late / 2**20:.1f} MiB, {kept} rows kept, tasks {sorted(tasks)[-5:]}"
    )
    assert late_rows > 0.9 * SECONDS * RATE
    assert max(tasks, default=0) <= TASK_MS_MAX, tasks
    assert late < early * HEAP_GROWTH_MAX + kept * ROW_BYTES_MAX


@pytest.fixture
def generous(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server that shows more entries a second than anybody can read."""
    made = Stack(tmp_path_factory.mktemp("generous"))
    try:
        made.start(TRACEHUB_LIVE_ENTRIES_PER_SECOND_MAX="20000")
        yield made
    finally:
        made.end()


def test_a_full_view_scrolls_smoothly_and_is_bounded(browser: Browser, generous: Stack) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(generous.http + "/live-logs")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.enable")

    def fill(first: int, count: int) -> None:
        with httpx.Client(base_url=generous.http, trust_env=False, timeout=20) as client:
            for start in range(first, first + count, 500):
                batch = [
                    {"seq": seq, "message": f"order {seq} was taken"} for seq in range(start, start + 500)
                ]
                assert client.post("/ingest", json={"service": "full", "batch": batch}).status_code == 200
                page.wait_for_timeout(50)  # let the page draw what came

    def shown(number: int) -> None:
        last = page.locator(".log-row").last
        expect(last).to_contain_text(f"order {number} was taken", timeout=60_000)

    fill(1, RING)
    shown(RING)
    full = heap_bytes(session)
    fill(RING + 1, 20_000)
    shown(RING + 20_000)
    expect(page.locator("[role=status]").first).to_have_text("100,000 of 100,000 shown")
    later = heap_bytes(session)
    page.evaluate(WATCH)
    longest, rows = page.evaluate(SCROLL)
    tasks = page.evaluate("window.longTasks")
    print(
        f"heap {full / 2**20:.1f} -> {later / 2**20:.1f} MiB; "
        f"longest frame {longest:.0f} ms, {rows} rows drawn, tasks {tasks}"
    )
    assert later < full * 1.1
    assert rows < 100
    assert longest < TASK_MS_MAX
    assert max(tasks, default=0) <= TASK_MS_MAX
    page.close()
