"""Addresses of the stores out of the names that other programs use for them (log-service.md §9). Pure.

A whole address comes before its parts, and POSTGRES_* before DB_*; of these two the one that names a host comes
first, so that a password which is there for the database's own container decides nothing. What is not given is
`postgres` at localhost:5432, database `tracehub`; localhost:6379, database 0. Each part is percent-encoded, so
that a password may hold anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

POSTGRES = ("POSTGRES_", ("HOST", "PORT", "USER", "PASSWORD", "DB"))
DB = ("DB_", ("HOST", "PORT", "USER", "PASSWORD", "NAME", "SSL_MODE"))
REDIS = ("REDIS_", ("HOST", "PORT", "PASSWORD", "DB"))
POSTGRES_NAMES = ("DATABASE_URL", *(prefix + part for prefix, parts in (POSTGRES, DB) for part in parts))
REDIS_NAMES = ("REDIS_URL", *(REDIS[0] + part for part in REDIS[1]))


def postgres(env: Mapping[str, str]) -> str:
    """The address of Postgres."""
    if url := env.get("DATABASE_URL"):
        return url
    groups = [[env.get(prefix + part, "") for part in parts] for prefix, parts in (POSTGRES, DB)]
    named = (
        [group for group in groups if group[0]] or [group for group in groups if any(group)] or [groups[0]]
    )
    host, port, user, password, database, *mode = named[0]
    place = f"{_host(host)}:{port or 5432}/{_quoted(database or 'tracehub')}"
    query = f"?sslmode={_quoted(mode[0])}" if mode and mode[0] else ""
    return f"postgresql://{_quoted(user or 'postgres')}{_secret(password)}@{place}{query}"


def redis(env: Mapping[str, str]) -> str:
    """The address of Redis."""
    if url := env.get("REDIS_URL"):
        return url
    host, port, password, database = (env.get(REDIS[0] + part, "") for part in REDIS[1])
    credentials = f"{_secret(password)}@" if password else ""
    return f"redis://{credentials}{_host(host)}:{port or 6379}/{database or 0}"


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host or "localhost"


def _secret(password: str) -> str:
    return f":{_quoted(password)}" if password else ""


def _quoted(text: str) -> str:
    return quote(text, safe="")
