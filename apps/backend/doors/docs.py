"""The description of the API: /openapi.json, /openapi.yaml, and a page of it at /docs and /swagger/."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from apps.backend.errors import JSON
from apps.backend.openapi import document
from tracehub.protocol.shapes import REFERENCE, Schema, rule

_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HEADERS = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache", "Referrer-Policy": "no-referrer"}
_STYLE = """:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, b { font-family: ui-monospace, monospace; }
section { border-top: 1px solid #8886; padding: .6rem 0; }
section b { display: inline-block; min-width: 4.5rem; }
p { margin: .2rem 0 .2rem 4.5rem; }
small { opacity: .8; }
details { margin-left: 4.5rem; }
summary { cursor: pointer; font-size: .875rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .1rem 1rem; margin: .4rem 0; }
dd { margin: 0; }
"""


def routes(described: Callable[[], Iterable[Route]]) -> list[Route]:
    """The routes of this door. `described`: all routes, those of the other doors included; asked once."""

    @lru_cache(maxsize=1)
    def made() -> dict[str, Any]:
        return document(described(), _version())

    async def openapi_json(_: Request) -> Response:
        """GET /openapi.json: this description."""
        return JSON(made(), headers={"Cache-Control": "no-cache"})

    async def openapi_yaml(_: Request) -> Response:
        """GET /openapi.yaml: the same; JSON is YAML."""
        answer = JSON(made(), headers={"Cache-Control": "no-cache"})
        answer.headers["content-type"] = "application/yaml; charset=utf-8"
        return answer

    async def docs(_: Request) -> Response:
        """GET /docs: the same, to be read."""
        return HTMLResponse(_page(made()), headers=_HEADERS)

    return [
        Route("/openapi.json", openapi_json, methods=["GET"]),
        Route("/openapi.yaml", openapi_yaml, methods=["GET"]),
        Route("/docs", docs, methods=["GET"]),
        Route("/docs.css", style, methods=["GET"]),
        Route("/swagger/", docs, methods=["GET"]),
    ]


async def style(_: Request) -> Response:
    """GET /docs.css: how the page looks."""
    return Response(_STYLE, media_type="text/css", headers={"Cache-Control": "no-cache"})


def _version() -> str:
    try:
        return version("tracehub")
    except PackageNotFoundError:
        return "0"


def _page(described: dict[str, Any]) -> str:
    sections = [
        _section(path, method, operation, described["components"]["schemas"])
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    info = described["info"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>TraceHub API</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/docs.css"></head><body>'
        f"<h1>TraceHub API {escape(info['version'])}</h1><p>{escape(info['description'])}</p>"
        '<p>For programs: <a href="/openapi.json">/openapi.json</a>, <a href="/openapi.yaml">/openapi.yaml</a>.</p>'
        f"{''.join(sections)}</body></html>"
    )


def _section(path: str, method: str, operation: dict[str, Any], parts: dict[str, Schema]) -> str:
    names = ", ".join(p["name"] for p in operation["parameters"] if p["in"] == "query")
    asked = f"<p><small>?{escape(names)}</small></p>" if names else ""
    return (
        f"<section><b>{method.upper()}</b> <code>{escape(path)}</code>"
        f"<p>{escape(operation['summary'])}</p>{asked}{_body(operation, parts)}</section>"
    )


def _body(operation: dict[str, Any], parts: dict[str, Schema]) -> str:
    """The fields of a body, each with its rule."""
    if "requestBody" not in operation:
        return ""
    name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].removeprefix(REFERENCE)
    required = parts[name].get("required", ())
    fields = [
        f"<dt><code>{escape(field)}</code>{' *' if field in required else ''}</dt>"
        f"<dd>{escape(rule(schema, parts) or 'any JSON')}</dd>"
        for field, schema in parts[name]["properties"].items()
        if not schema.get("readOnly")
    ]
    return f"<details><summary>{escape(name)}</summary><dl>{''.join(fields)}</dl></details>"
