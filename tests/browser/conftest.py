"""A real `tracehub up` with three simulators, looked at through the system's Chromium.

Every page of a test is watched: an error on its console, an uncaught exception or a request to anywhere else
fails the test. A screenshot of its last state is kept in .artefacts/browser.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from apps.backend.doors.pages import BUILT
from tests.e2e.stack import Stack

# Other tests run beside these: patience costs nothing where all is well.
expect.set_options(timeout=20_000)
ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / ".artefacts" / "browser"
WIDE, PHONE = 1_440, 390
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
# Nothing but the page under test may be asked for: no updates, no lookups of its own.
FLAGS = ("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync")


def _chromium() -> str:
    found = next(filter(None, map(shutil.which, CHROMIUMS)), "")
    if not found:
        pytest.skip("no Chromium on PATH: run scripts/browser as root, or install the package `chromium`")
    if not (BUILT / "index.html").exists():
        pytest.skip("the page is not built: run `make dashboard`")
    return found


# No longer than this folder's tests: as long as it is open, its event loop runs, and no other test can run one.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    path = _chromium()
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=[*FLAGS, *sandbox])
        yield launched
        launched.close()


@pytest.fixture(scope="package")
def stack(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One for all tests of this folder: they share it as people share a server."""
    made = Stack(tmp_path_factory.mktemp("browser"))
    try:
        made.start(simulators=3, TRACEHUB_SIM_RATE="20")
        yield made
    finally:
        print(made.tails())
        made.end()


@pytest.fixture
def api(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.http, trust_env=False, timeout=20) as client:
        yield client


class Watched:
    """Opens pages, and knows what went wrong in them."""

    def __init__(self, browser: Browser, http: str, stack: ExitStack) -> None:
        self._browser = browser
        self._http = http
        self._stack = stack
        self.wrong: list[str] = []
        self.expected = re.compile(r"(?!)")  # what may stand on the console of this test
        self.pages: list[Page] = []

    def __call__(self, path: str, *, width: int = WIDE, scheme: str = "light", **more: Any) -> Page:
        context = self._browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, **more
        )
        self._stack.callback(context.close)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: message.type == "error" and self._note(message.text))
        page.on("pageerror", lambda error: self._note(str(error)))
        page.on("request", lambda request: self._asked(request.url))
        page.on("dialog", lambda dialog: self._note(f"dialog: {dialog.message}"))
        page.goto(self._http + path)
        self.pages.append(page)
        return page

    def _note(self, text: str) -> None:
        if not self.expected.search(text):
            self.wrong.append(text)

    def _asked(self, url: str) -> None:
        if not url.startswith(
            (self._http + "/", self._http.replace("http", "ws", 1) + "/", "data:", "blob:")
        ):
            self.wrong.append(f"asked for {url}")


@contextmanager
def watching(browser: Browser, http: str, test: str) -> Iterator[Watched]:
    """Pages of one server, for as long as a test runs."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    with ExitStack() as contexts:
        watched = Watched(browser, http, contexts)
        yield watched
        name = re.sub(r"[^\w.-]+", "-", test)
        for number, page in enumerate(watched.pages):
            page.screenshot(path=SHOTS / f"{name}{f'-{number}' if number else ''}.png")
        assert watched.wrong == []


@pytest.fixture
def look(browser: Browser, stack: Stack, request: pytest.FixtureRequest) -> Iterator[Callable[..., Page]]:
    """`look("/queue", width=390, scheme="dark")` opens a page."""
    with watching(browser, stack.http, request.node.name) as watched:
        yield watched
