"""Logging in with a browser (log-service.md §1.4): GET and POST /login turn a key into a cookie, POST /logout ends it,
GET /whoami says what the one who asks may do.

The cookie holds a random number, of which Postgres keeps the digest beside that of the key. So neither the table
nor a stolen cookie gives the key away, logging out ends it everywhere, and it ends with its key. A signed token
would need no table, but could not be ended, and its secret would have to be kept and shared.
"""

from __future__ import annotations

import base64
from html import escape
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from apps.backend.access import COOKIE, LOGIN_MS
from apps.backend.body import read_body
from apps.backend.context import context, require
from apps.backend.doors.pages import LOGIN, POLICY
from apps.backend.errors import JSON, STATUS
from tracehub.protocol.errors import Forbidden, TraceHubError, Unauthorized, Unavailable
from tracehub.protocol.grants import READ, Door

COOKIE_BYTES = 32
FORM_BYTES_MAX = 8 * 1024
HERE = Door("ingest", tenant_in_query=True)
_HEADERS = {
    "content-security-policy": POLICY.replace("form-action 'none'", "form-action 'self'"),
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Log in · TraceHub</title>
<link rel="icon" href="/icon.svg"><link rel="stylesheet" href="/login.css">
<main><h1>TraceHub</h1>
{told}<form method="post" action="/login">
<input type="hidden" name="next" value="{onwards}">
<label for="key">Key</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
<button>Log in</button>
</form>
<p>A key that may read: <code>tracehub keys create --name me --scope read</code></p></main>
</html>"""
_ENDED = "Session expired or key rejected."
_STYLE = """body { font: 16px/1.5 system-ui, sans-serif; margin: 0; padding: 2rem; }
main { margin: 12vh auto 0; max-width: 24rem; }
label, input, button { display: block; font: inherit; box-sizing: border-box; width: 100%; }
input { margin: 0.25rem 0 1rem; padding: 0.5rem; }
button { padding: 0.5rem; cursor: pointer; }
[role=alert] { border-left: 0.25rem solid #c62828; padding-left: 0.75rem; }
p { overflow-wrap: anywhere; }
"""


async def form(request: Request) -> Response:
    """GET /login: the form that takes a key."""
    onwards = _own_path(request.query_params.get("next", ""))
    if context(request).access.is_all_open:
        return RedirectResponse(onwards, 303)
    return _page(onwards, _ENDED if "ended" in request.query_params else "")


async def style(_: Request) -> Response:
    """GET /login.css: how the form looks; its policy allows no style within it."""
    return Response(_STYLE, media_type="text/css", headers={"cache-control": "public, max-age=3600"})


async def log_in(request: Request) -> Response:
    """POST /login: log a browser in by the form field `key`; 303 with the cookie, or the form again."""
    ctx = context(request)
    _require_own_form(request)
    body = await read_body(request, ctx.settings.body_timeout_s, FORM_BYTES_MAX)
    fields = parse_qs(body.decode("utf-8", "replace"))
    onwards = _own_path(fields.get("next", [""])[0])
    cookie = base64.urlsafe_b64encode(ctx.random(COOKIE_BYTES)).decode().rstrip("=")
    try:
        await ctx.access.log_in(fields.get("key", [""])[0].strip(), cookie)
    except (Unauthorized, Forbidden) as refusal:
        told = "This key is not valid." if isinstance(refusal, Unauthorized) else "This key may not read."
        return _page(onwards, told, 401 if isinstance(refusal, Unauthorized) else 403)
    except TraceHubError as trouble:
        if STATUS.get(type(trouble)) != STATUS[Unavailable]:
            raise
        return _page(onwards, "A store is not reachable; try again later.", 503)
    response = RedirectResponse(onwards, 303, {"cache-control": "no-store"})
    response.set_cookie(
        COOKIE, cookie, max_age=LOGIN_MS // 1000, path="/", secure=_is_https(request), httponly=True,
        samesite="strict",
    )  # fmt: skip
    return response


async def log_out(request: Request) -> Response:
    """POST /logout: end the login, here and everywhere."""
    _require_own_form(request)
    await context(request).access.log_out(request)
    response = RedirectResponse(LOGIN, 303, {"cache-control": "no-store"})
    response.delete_cookie(COOKIE, path="/", secure=_is_https(request), httponly=True, samesite="strict")
    return response


async def whoami(request: Request) -> Response:
    """GET /whoami: what the one who asks may do, so that a page offers nothing that would be refused.

    With `?tenant_id=` the tenant is that one: so a name is told as the UUID it stands for.
    """
    caller = require(request, READ, door=HERE)
    told = {
        "loggedIn": caller.login is not None,
        "keyId": caller.key_id,
        "admin": caller.is_admin,
        "allTenants": caller.is_unbound_admin,
        "tenantId": caller.tenant_id,
        "appKey": caller.app_key,
    }
    return JSON(told, headers={"Cache-Control": "no-store"})


def _page(onwards: str, told: str = "", status: int = 200) -> Response:
    shown = f'<p role="alert">{escape(told)}</p>\n' if told else ""
    headers = {**_HEADERS, **({"www-authenticate": "Bearer"} if status == 401 else {})}
    return HTMLResponse(_PAGE.format(told=shown, onwards=escape(onwards)), status, headers)


def _own_path(text: str) -> str:
    """A path of ours, for a link could lead anywhere; else the first page."""
    is_path = text.startswith("/") and not text.startswith("//")
    return text if is_path and text.isprintable() and "\\" not in text else "/"


def _require_own_form(request: Request) -> None:
    """Refuse the form of another site's page. Raises Forbidden."""
    origin = request.headers.get("origin")
    if origin is None:
        return
    try:
        page = urlsplit(origin).netloc
    except ValueError:
        page = ""
    if page != request.headers.get("host", ""):
        raise Forbidden("this form cannot be sent by another site's page")


def _is_https(request: Request) -> bool:
    """Also behind a proxy that ends TLS; who lies here only loses their own cookie."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", "").lower())


ROUTES = [
    Route(LOGIN, form, methods=["GET"]),
    Route(f"{LOGIN}.css", style, methods=["GET"]),
    Route(LOGIN, log_in, methods=["POST"]),
    Route("/logout", log_out, methods=["POST"]),
    Route("/whoami", whoami, methods=["GET"]),
]
