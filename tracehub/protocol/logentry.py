"""The public LogEntry of an entry (log-service.md §3)."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from tracehub.protocol.limits import TEXT_CHARS_MAX
from tracehub.protocol.messages import Entry, Own, Request, id_of
from tracehub.protocol.severity import word_of
from tracehub.protocol.times import iso, unix_ms

_LONG_NUMBER = re.compile(rb"\d{19}")


_OPTIONAL = (*TEXT_CHARS_MAX, "app_id")


def log_entry(request: Request, index: int, created_ms: int) -> dict[str, Any]:
    """One entry of a request as viewers see it, with its place in the numbering."""
    entry: Entry = request.entries[index]
    own = entry.own or Own(request.stream.tenant_id, request.service, request.batch_id)
    shown: dict[str, Any] = {
        "id": str(uuid.UUID(bytes=id_of(request, index))),
        "tenant_id": own.tenant_id,
        "service_name": own.service,
        "message": entry.message,
        "timestamp": iso(entry.ts_ms),
        "created_at": iso(created_ms),
        "door": request.door,
    }
    if not request.stream.by_server:
        shown |= {"service": own.service, "epoch": request.stream.epoch, "seq": entry.seq}
    _add_level(shown, entry.severity, entry.level)
    _add_present(shown, {name: getattr(entry, name) for name in _OPTIONAL})
    _add_present(shown, {"batch_id": own.batch_id})
    _add_metadata(shown, entry.attrs)
    return shown


def stored_entry(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row of `logs`; attrs is JSON text."""
    shown = {
        "id": str(row["id"]),
        "tenant_id": str(row["tenant_id"]),
        "service_name": row["service"],
        "message": row["message"],
        "timestamp": iso(unix_ms(row["ts"])),
        "created_at": iso(unix_ms(row["created_at"])),
        "door": row["door"],
    }
    _add_level(shown, row["severity"], row["level"])
    _add_present(shown, {name: row[name] for name in (*_OPTIONAL, "batch_id")})
    _add_metadata(shown, row["attrs"] and row["attrs"].encode())
    return shown


def _add_level(shown: dict[str, Any], severity: int, level: str) -> None:
    word = word_of(severity)
    shown["level"], shown["severity"] = word, severity
    if level.lower() != word.lower():
        shown["level_text"] = level


def _add_present(shown: dict[str, Any], optional: Mapping[str, Any]) -> None:
    """Absent optional fields are omitted."""
    shown.update({name: value for name, value in optional.items() if value is not None})


def _add_metadata(shown: dict[str, Any], attrs: bytes | None) -> None:
    """What was no object when it was sent comes back as it was sent."""
    if attrs is not None:
        metadata = _metadata(attrs)
        shown["metadata"] = metadata["_value"] if metadata.keys() == {"_value"} else metadata


def _metadata(attrs: bytes) -> Any:
    """attrs as a value that every encoder takes: an integer beyond 64 bits is the double it is read as."""
    if _LONG_NUMBER.search(attrs):
        return json.loads(attrs, parse_int=_narrow)
    return msgspec.json.decode(attrs)


def _narrow(digits: str) -> int | float:
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else float(number)
