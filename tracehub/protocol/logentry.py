"""The public LogEntry of a stored entry (log-service.md §3), with its place in the numbering."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import msgspec

from tracehub.protocol.limits import TEXT_CHARS_MAX
from tracehub.protocol.messages import Entry, Request, entry_id
from tracehub.protocol.severity import word_of
from tracehub.protocol.times import iso

_LONG_NUMBER = re.compile(rb"\d{19}")


def log_entry(request: Request, index: int, created_ms: int) -> dict[str, Any]:
    """One entry of a request as viewers see it; absent optional fields are omitted."""
    entry: Entry = request.entries[index]
    word = word_of(entry.severity)
    shown: dict[str, Any] = {
        "id": str(uuid.UUID(bytes=entry_id(request.id_base, index))),
        "tenant_id": request.stream.tenant_id,
        "service_name": request.service,
        "service": request.service,
        "epoch": request.stream.epoch,
        "seq": entry.seq,
        "level": word,
        "severity": entry.severity,
        "message": entry.message,
        "timestamp": iso(entry.ts_ms),
        "created_at": iso(created_ms),
        "door": request.door,
        "batch_id": request.batch_id,
    }
    if entry.level.lower() != word.lower():
        shown["level_text"] = entry.level
    for name in (*TEXT_CHARS_MAX, "app_id"):
        value = getattr(entry, name)
        if value is not None:
            shown[name] = value
    if entry.attrs is not None:
        shown["metadata"] = _metadata(entry.attrs)
    return shown


def _metadata(attrs: bytes) -> Any:
    """attrs as a value that every encoder takes: an integer beyond 64 bits is the double it is read as."""
    if _LONG_NUMBER.search(attrs):
        return json.loads(attrs, parse_int=_narrow)
    return msgspec.json.decode(attrs)


def _narrow(digits: str) -> int | float:
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else float(number)
