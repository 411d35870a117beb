"""Loads queries.sql: `SQL.lock_streams` is the text under `-- name: lock_streams`."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(text: str) -> dict[str, str]:
    """Name → query, without comments and the last semicolon."""
    parts = _NAME.split(text)[1:]
    queries: dict[str, str] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        lines = [line for line in body.splitlines() if not line.lstrip().startswith("--")]
        queries[name] = "\n".join(lines).strip().rstrip(";")
    return queries


SQL = SimpleNamespace(**load(Path(__file__).with_name("queries.sql").read_text(encoding="utf-8")))
