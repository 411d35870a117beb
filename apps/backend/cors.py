"""Which paths the pages of other sites may call (log-service.md §1.5): the API doors, with no credentials; never
what changes settings, for there a page that somebody happens to look at must not even be heard.
"""

from __future__ import annotations

from functools import lru_cache

from starlette.responses import Response

SETTINGS = (
    "/replay", "/dead-letters", "/metrics/control", "/login", "/logout", "/whoami",
    "/api/v1/keys", "/api/v1/retention", "/api/v1/alerts",
)  # fmt: skip
API = (
    "/ingest", "/ack", "/services", "/proof", "/sequence", "/metrics", "/health", "/ready", "/live", "/api/v1",
    "/v1/logs", "/loki", "/openapi.json", "/openapi.yaml", "/docs", "/swagger",
)  # fmt: skip
SHARED = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"Retry-After, X-Request-ID, Idempotency-Replayed, X-Cache"),
)
PREFLIGHT = (  # beside SHARED, which every answer of these paths has
    (b"access-control-allow-methods", b"GET, POST, PUT, DELETE, OPTIONS"),
    (
        b"access-control-allow-headers",
        b"Content-Type, Content-Encoding, Authorization, X-Api-Key, X-Api-Token, X-App-Key, X-App-Id, X-OBS-Key,"
        b" X-Sentry-Auth, X-Tenant-ID, X-Request-ID, Idempotency-Key, Cache-Control, Last-Event-ID, traceparent",
    ),
    (b"access-control-max-age", b"600"),
)


@lru_cache(maxsize=1_024)
def is_shared(path: str) -> bool:
    """Whether other sites' pages may read the answers of a path."""
    return _within(path, API) and not _within(path, SETTINGS)


def preflight(path: str) -> Response:
    """The answer to OPTIONS on any path: bare where settings are."""
    response = Response(status_code=204)
    if not _within(path, SETTINGS):
        response.raw_headers.extend(PREFLIGHT if is_shared(path) else (*SHARED[:1], *PREFLIGHT))
    return response


def _within(path: str, places: tuple[str, ...]) -> bool:
    return path.startswith(places) and any(path == place or path.startswith(f"{place}/") for place in places)
