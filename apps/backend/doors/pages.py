"""The web interface: the built files of apps/dashboard, under a strict security policy.

Pages need a key that may read, or lead to /login; the built files are everybody's: there is nothing in them but
the program. A page's address may also be an API route (`/services`, `/replay`): a browser that asks for HTML gets
the page, everybody else the JSON. Without built files the address says how to get them; the rest of the server runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from apps.backend.body import header

BUILT = Path(__file__).resolve().parents[2] / "dashboard" / "dist"
PAGES = frozenset(("/", "/live-logs", "/services", "/replay", "/queue", "/alerts", "/retention", "/keys"))
BELOW = ("/services/", "/alerts/")
LOGIN = "/login"
FILES = ("/assets/", "/icon.svg")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
    "vary": "accept",
}
_ABSENT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>TraceHub</title>
<h1>The page is not built yet</h1>
<p>The server itself runs: see <a href="/metrics/snapshot">/metrics/snapshot</a> and <a href="/proof">/proof</a>.</p>
<p>To get the page, stop the server and run <code>make dashboard</code>; it needs Node 20 or newer, or fetches one.</p>
</html>"""


class Pages:
    """An ASGI application for what `wants` says yes to."""

    def __init__(self, built: Path = BUILT, may_see: Callable[[Scope], bool] = lambda _: True) -> None:
        """`may_see`: whether who asks may have pages; the others are sent to the log-in."""
        self._may_see = may_see
        self._index = built / "index.html"
        self._files = StaticFiles(directory=built, check_dir=False)

    @staticmethod
    def wants(scope: Scope) -> bool:
        """Whether this request is for a page or one of its files."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            return False
        path: str = scope["path"]
        if path.startswith(FILES) or path == "/":
            return True
        is_page = path.rstrip("/") in PAGES or path.startswith(BELOW)
        return is_page and is_visit(scope)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a file, or say how to get one."""
        scope["endpoint"] = pages
        response = await self._response(scope)
        await response(scope, receive, send)

    async def _response(self, scope: Scope) -> Response:
        if scope["path"].startswith(FILES):
            try:
                response = await self._files.get_response(scope["path"].lstrip("/"), scope)
            except HTTPException as error:
                return HTMLResponse("nothing is here", error.status_code)
            # Names of built files hold a hash of what is in them.
            response.headers["cache-control"] = "public, max-age=31536000, immutable"
            return response
        if not self._may_see(scope):
            return to_login(scope["path"], scope.get("query_string", b"").decode("latin-1"))
        if not self._index.exists():
            return HTMLResponse(_ABSENT, 503, _HEADERS)
        # An address that is nobody's has a page, too, that says so and leads on.
        return FileResponse(self._index, 200 if self.wants(scope) else 404, headers=_HEADERS)


def to_login(path: str, query: str = "") -> Response:
    """Where a page sends those who may not read it."""
    onwards = f"{path}?{query}" if query else path
    return RedirectResponse(f"{LOGIN}?next={quote(onwards, safe='/')}", 303, {"cache-control": "no-store"})


def is_visit(scope: Scope) -> bool:
    """Whether somebody looks with a browser, and no program asks."""
    return (
        scope["type"] == "http"
        and scope["method"] in ("GET", "HEAD")
        and "text/html" in header(scope, b"accept")
    )


def pages() -> None:
    """The name under which the answers are counted."""
