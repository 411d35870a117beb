"""A minute of 500 entries a second before an open page: it stays responsive, and its heap does not grow."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.sync_api import CDPSession, Page, expect

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.soak]

SECONDS, RATE, BATCH = 60, 500, 50
TASK_MS_MAX = 200
HEAP_GROWTH_MAX = 1.25
ROW_BYTES_MAX = 1_000
WATCH = """
    window.longTasks = [];
    new PerformanceObserver(list => {
        for (const task of list.getEntries()) window.longTasks.push(Math.round(task.duration));
    }).observe({ type: 'longtask' });
"""


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
        # Every page keeps the last 100,000 entries (src/logring.ts); beside them nothing may grow.
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
        f"{path}: heap {early / 2**20:.1f} -> {late / 2**20:.1f} MiB over {kept} kept rows, tasks {sorted(tasks)[-5:]}"
    )
    assert late_rows > 0.9 * SECONDS * RATE
    assert max(tasks, default=0) <= TASK_MS_MAX, tasks
    assert late < early * HEAP_GROWTH_MAX + kept * ROW_BYTES_MAX
