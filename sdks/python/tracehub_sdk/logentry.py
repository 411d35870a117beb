"""From what a program hands over to the JSON of a LogEntry (log-service.md §3); never raises.

The server refuses a whole batch for one bad entry, so what it would refuse is mended here, as entry.py does for the
other protocol; and every entry gets its id, so that sending it again stores nothing twice.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tracehub_sdk.entry import (
    ATTRS_BYTES_MAX,
    ENTRY_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    TEXT_CHARACTERS_MAX,
    attrs_json,
    cut_bytes,
    dumps,
    milliseconds,
    text_of,
)

SERVICE_CHARACTERS_MAX = 100
UNKNOWN_SERVICE = "unknown_service"
NO_MESSAGE = "(no message)"  # the server wants one byte at least
_COLUMNS = ("level", "trace_id", "request_id", "span_id", "user_id", "source", "host", "environment")
_OWN = frozenset(
    (*_COLUMNS, "service_name", "service", "message", "timestamp", "ts", "metadata", "attrs", "id")
)
_UNIX = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTER_MAX = 2**74 - 1


class Ids:
    """UUIDv7s, ascending, whoever asks. `random`: 74 bits."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def make(self, now_ms: int, random: int) -> str:
        """A UUID in lower case, above the last one."""
        with self._lock:
            bits = (now_ms & (2**48 - 1)) << 74 | random & _COUNTER_MAX
            if bits <= self._last:
                bits = self._last + 1
            self._last = bits
        value = bits >> 74 << 80 | 0x7 << 76 | (bits >> 62 & 0xFFF) << 64 | 0b10 << 62 | bits & (2**62 - 1)
        return str(UUID(int=value))


def encode(entry: Mapping[str, object], entry_id: str, now_ms: int, service: str) -> str:
    """The entry as JSON. Keys of log-service.md §3; `service` and `ts` are understood too; others move into
    `metadata`. `service` is for entries that name none."""
    metadata = _metadata(entry)
    ts = entry.get("timestamp")
    ms = milliseconds(entry.get("ts") if ts is None else ts, now_ms, metadata)
    given = entry.get("service_name") or entry.get("service") or service
    parts: dict[str, object] = {
        "id": entry_id,
        "service_name": text_of(given)[:SERVICE_CHARACTERS_MAX] or UNKNOWN_SERVICE,
        "timestamp": iso(now_ms if ms is None else ms),
    }
    for name in _COLUMNS:
        value = entry.get(name)
        if value is not None and (text := text_of(value)):
            parts[name] = text[: TEXT_CHARACTERS_MAX[name]]
    message = entry.get("message")
    parts["message"] = cut_bytes("" if message is None else text_of(message), MESSAGE_BYTES_MAX) or NO_MESSAGE
    head = dumps(parts)
    # Control characters take six bytes each as JSON: such a message is cut until the whole entry fits.
    while len(head.encode()) > ENTRY_BYTES_MAX - ATTRS_BYTES_MAX:
        parts["message"] = cut_bytes(str(parts["message"]), len(str(parts["message"]).encode()) // 2)
        head = dumps(parts)
    return f'{head[:-1]},"metadata":{attrs_json(metadata)}}}' if metadata else head


def _metadata(entry: Mapping[str, object]) -> dict[str, object]:
    metadata: dict[str, object] = {}
    for name in ("metadata", "attrs"):
        given = entry.get(name)
        if isinstance(given, Mapping):
            metadata.update({text_of(key): value for key, value in given.items()})
        elif given is not None:
            metadata["_value"] = given
    for key, value in entry.items():
        if key not in _OWN and value is not None:
            metadata.setdefault(text_of(key), value)
    return metadata


def iso(ms: int) -> str:
    """Unix milliseconds as `YYYY-MM-DDTHH:MM:SS.mmmZ`."""
    return f"{_UNIX + timedelta(milliseconds=ms):%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
