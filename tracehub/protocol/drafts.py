"""Entries of foreign dialects (OTLP, Loki) before they have a number and a tenant.

Guarantee: no record is lost for what can be kept otherwise. A long message is cut, an impossible time becomes now and
stays as an attribute, a long name is cut and a long id left out where the whole of it is among the attributes.
Limits: limits.py. Not here: what a dialect calls its fields (otlp.py, loki.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tracehub.protocol.errors import TooLarge
from tracehub.protocol.fields import in_time
from tracehub.protocol.limits import MESSAGE_BYTES_MAX, SERVICE_CHARS_MAX, TEXT_CHARS_MAX
from tracehub.protocol.messages import Entry

DRAFTS_MAX: Final = 10_000
# What many records share (a resource, labels) is written with each of them: a small body may mean many bytes.
DRAFTS_BYTES_MAX: Final = 64 * 1024 * 1024
UNKNOWN_SERVICE: Final = "unknown_service"
NS_PER_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Drafts:
    """Entries in order, with `seq` 0 and no tenant; how many records were rejected, and the first reason."""

    entries: list[Entry]
    rejected: int = 0
    reason: str = ""


def require_few(records: int, what: str) -> None:
    """Raises TooLarge."""
    if records > DRAFTS_MAX:
        raise TooLarge(f"a request holds at most {DRAFTS_MAX} {what}")


def require_small(size: int) -> None:
    """`size`: bytes of messages and attributes. Raises TooLarge."""
    if size > DRAFTS_BYTES_MAX:
        raise TooLarge(f"with what its records share the request is larger than {DRAFTS_BYTES_MAX} bytes")


def keep(attrs: dict[str, Any], name: str, value: Any) -> None:
    """Put a value of ours under its name; what the sender has there moves to `_name`."""
    if name in attrs:
        moved = "_" + name
        while moved in attrs:
            moved = "_" + moved
        attrs[moved] = attrs[name]
    attrs[name] = value


def cut(message: str, attrs: dict[str, Any]) -> str:
    """The message, at most MESSAGE_BYTES_MAX bytes of it; `attrs.truncated` says that there was more."""
    if len(message) * 4 <= MESSAGE_BYTES_MAX:
        return message
    data = message.encode()
    if len(data) <= MESSAGE_BYTES_MAX:
        return message
    keep(attrs, "truncated", True)
    return data[:MESSAGE_BYTES_MAX].decode("utf-8", "ignore")


def in_range(nanos: int, now_ms: int) -> int | None:
    """Unix milliseconds of Unix nanoseconds; None where no entry may have this time."""
    ms = nanos // NS_PER_MS
    return ms if in_time(ms, now_ms) else None


def service_of(name: str | None) -> str:
    """1 to SERVICE_CHARS_MAX characters."""
    return name[:SERVICE_CHARS_MAX] if name else UNKNOWN_SERVICE


def name_of(value: str | None, field: str) -> str | None:
    """A name is known by its beginning: cut."""
    return value[: TEXT_CHARS_MAX[field]] if value else None


def id_of(value: str | None, field: str) -> str | None:
    """Half an id is another id: left out where it is too long."""
    return value if value and len(value) <= TEXT_CHARS_MAX[field] else None
