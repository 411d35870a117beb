"""`Ranges` as the text of a Postgres int8multirange, and back. Small ones only; large ones stay in Postgres."""

from __future__ import annotations

from tracehub.protocol.ranges import EMPTY, Ranges


def to_text(ranges: Ranges) -> str:
    """((1, 4), (7, 7)) → '{[1,4],[7,7]}'."""
    return "{" + ",".join(f"[{first},{last}]" for first, last in ranges) + "}"


def from_text(text: str | None) -> Ranges:
    """'{[1,5),[7,8)}' → ((1, 4), (7, 7)); None → no numbers. Postgres always answers in this form."""
    if not text or text == "{}":
        return EMPTY
    parts = text[2:-2].split("),[")
    pairs = (part.split(",") for part in parts)
    return tuple((int(first), int(end) - 1) for first, end in pairs)
