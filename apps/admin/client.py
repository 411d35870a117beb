"""The HTTP interface of a running TraceHub (ingest.md §2 and §4), with the standard library only."""

from __future__ import annotations

import ipaddress
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tracehub.runtime.settings import Settings

TIMEOUT_S = 30.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024


class ApiError(Exception):
    """TraceHub could not be reached or refused; the message is for the person at the terminal."""


def address(url: str, settings: Settings) -> str:
    """Where to ask: what was given, else what `up` wrote into run.json, else the settings."""
    if url:
        return url.rstrip("/")
    try:
        return str(json.loads((Path(settings.data_dir) / "run.json").read_text())["http"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"http://{settings.host}:{settings.port}"


class Client:
    """One TraceHub server; `key` is shown to it, "" is none."""

    def __init__(self, base: str, key: str = "") -> None:
        self._key = key
        if urlsplit(base).scheme not in {"http", "https"}:
            raise ApiError(f"--url must begin with http:// or https://, not {base!r}")
        self._base = base
        handlers = [urllib.request.ProxyHandler({})] if _is_loopback(base) else []
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, *path: str, **query: object) -> Any:
        """The decoded answer; query values of None are left out. ApiError when there is none."""
        return self._ask("GET", path, query=query)

    def post(self, *path: str, body: object = None) -> Any:
        """POST a JSON body (an empty object by default)."""
        return self._ask("POST", path, body={} if body is None else body)

    def delete(self, *path: str) -> Any:
        """DELETE; the routes ask for JSON here as well, against requests that a web page could forge."""
        return self._ask("DELETE", path, body={})

    def _ask(
        self,
        method: str,
        path: tuple[str, ...],
        *,
        query: dict[str, object] | None = None,
        body: object = None,
    ) -> Any:
        url = "/".join([self._base, *(quote(part, safe="") for part in path)])
        given = {name: value for name, value in (query or {}).items() if value is not None}
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            f"{url}?{urlencode(given)}" if given else url,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Accept": "application/json", "Content-Type": "application/json"},
        )
        if self._key:
            request.add_unredirected_header("Authorization", f"Bearer {self._key}")
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                text = answer.read(ANSWER_BYTES_MAX)
                return json.loads(text) if text.strip() else {}
        except urllib.error.HTTPError as error:
            with error:
                raise ApiError(_refusal(error)) from error
        except urllib.error.URLError as error:
            raise ApiError(
                f"nothing answers at {self._base} ({error.reason}); is `tracehub up` running?"
            ) from None
        except (OSError, ValueError) as error:
            raise ApiError(f"no proper answer from {self._base}: {error}") from error


def _refusal(error: urllib.error.HTTPError) -> str:
    try:
        told = json.loads(error.read(ANSWER_BYTES_MAX))["error"]
        field = f" ({told['field']})" if told.get("field") else ""
        return f"{told['code']}: {told['message']}{field}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"the server answered {error.code} {error.reason}"


def _is_loopback(base: str) -> bool:
    """Whether a proxy of the environment has no business between us and it."""
    host = urlsplit(base).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
