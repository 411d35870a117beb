"""Which requests get the web interface, and what they get."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps.backend.doors.pages import BUILT, Pages

HTML = {"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}


def scope(path: str, method: str = "GET", accept: str = "*/*", kind: str = "http") -> dict[str, Any]:
    return {"type": kind, "method": method, "path": path, "headers": [(b"accept", accept.encode())]}


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (scope("/"), True),
        (scope("/assets/index.js"), True),
        (scope("/services"), False),
        (scope("/services", accept="text/html"), True),
        (scope("/services/a%2Fb", accept="text/html"), True),
        (scope("/alerts/", accept="text/html"), True),
        (scope("/alerts/0193", accept="text/html"), True),
        (scope("/keys", accept="text/html"), True),
        (scope("/retention", accept="text/html"), True),
        (scope("/api/v1/keys", accept="text/html"), False),
        (scope("/replay", accept="application/json"), False),
        (scope("/replay", method="POST", accept="text/html"), False),
        (scope("/proof", accept="text/html"), False),
        (scope("/", kind="websocket"), False),
    ],
)
def test_pages_are_for_browsers(asked: dict[str, Any], wanted: bool) -> None:
    assert Pages.wants(asked) is wanted


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><p>the page")
    (tmp_path / "assets" / "index-1.js").write_text("1")
    (tmp_path.parent / "secret.txt").write_text("not for you")
    return tmp_path


@pytest.fixture
async def client(built: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=Pages(built))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=HTML) as made:
        yield made


async def test_every_page_is_the_one_file_under_a_strict_policy(client: httpx.AsyncClient) -> None:
    for path in ("/", "/live-logs", "/services/shop"):
        answer = await client.get(path)
        assert (answer.status_code, answer.text) == (200, "<!doctype html><p>the page")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "unsafe" not in policy
        assert (answer.headers["cache-control"], answer.headers["vary"]) == ("no-cache", "accept")


async def test_files_may_be_kept_and_nothing_else_is_given(client: httpx.AsyncClient) -> None:
    kept = await client.get("/assets/index-1.js")
    assert (kept.status_code, kept.text) == (200, "1")
    assert "immutable" in kept.headers["cache-control"]
    for path in (
        "/assets/none.js",
        "/assets/../../secret.txt",
        "/assets/%2e%2e/%2e%2e/secret.txt",
        "/assets/",
    ):
        answer = await client.get(path)
        assert "not for you" not in answer.text
        assert answer.status_code in (200, 404)
        assert answer.status_code == 404 or answer.text.startswith("<!doctype html>")


async def test_without_a_build_the_address_says_how_to_get_one(tmp_path: Path) -> None:
    transport = httpx.ASGITransport(app=Pages(tmp_path / "nowhere"))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=HTML) as client:
        answer = await client.get("/")
        assert answer.status_code == 503
        assert "make dashboard" in answer.text
        assert (await client.get("/assets/index.js")).status_code == 404


@pytest.mark.skipif(not (BUILT / "index.html").exists(), reason="the page is not built: run `make dashboard`")
def test_wheel_holds_the_built_page_and_not_its_source(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    built = {
        path.relative_to(BUILT).as_posix() for path in BUILT.rglob("*.*") if not path.name.startswith(".")
    }
    assert {f"apps/dashboard/dist/{name}" for name in built} <= set(names)
    assert [name for name in names if "node_modules" in name or name.startswith("apps/dashboard/src/")] == []
