"""Answers as tables for people, or as JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracehub.runtime.logging import printable

LEFT = {
    "service",
    "state",
    "status",
    "reason",
    "id",
    "error",
    "lastSeen",
    "variable",
    "value",
    "default",
    "from",
    "description",
}


def rows_of(answer: Any) -> list[dict[str, Any]]:
    """The rows of an answer: the answer itself when it is a list, else the first list in it."""
    if isinstance(answer, dict):
        answer = next((value for value in answer.values() if isinstance(value, list)), [])
    return [row for row in answer if isinstance(row, dict)] if isinstance(answer, list) else []


def show(answer: Any, columns: Sequence[str], *, as_json: bool, nothing: str) -> None:
    """Print the rows, with these columns as far as any row has them; without rows, say `nothing`."""
    if as_json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    rows = rows_of(answer)
    if not rows:
        print(nothing)
        return
    present = [column for column in columns if any(row.get(column) is not None for row in rows)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in present:
        table.add_column(column, justify="left" if column in LEFT else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(row.get(column))) for column in present))
    # A pipe gets lines as long as they are; only a terminal has a width.
    Console(width=None if sys.stdout.isatty() else 400, highlight=False).print(table)


def cell(value: Any) -> str:
    """One value, printable whatever it holds."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping | list):
        value = json.dumps(value, ensure_ascii=False)
    return printable(str(value))
