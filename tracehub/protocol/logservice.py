"""Entries as the log service takes them (log-service.md §3): a document in, canonical entries out. Pure.

Numbers are given later (messages.place). Raises InvalidField, InvalidId, InvalidTenantId, TooLarge; `field` names the
first bad value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tracehub.protocol import fields
from tracehub.protocol.errors import InvalidField, InvalidId, InvalidTenantId, TooLarge
from tracehub.protocol.limits import (
    BATCH_ENTRIES_MAX,
    LEVEL_CHARS_MAX,
    MESSAGE_BYTES_MAX,
    SERVICE_CHARS_MAX,
    TEXT_CHARS_MAX,
)
from tracehub.protocol.messages import Entry, Own
from tracehub.protocol.severity import number_of

_TEXTS: Final = ("trace_id", "span_id", "request_id", "user_id", "source", "host", "environment")
_KNOWN: Final = frozenset(
    ("id", "tenant_id", "service_name", "level", "message", "timestamp", "metadata", *_TEXTS)
)

# What a body says of its tenant (None: nothing), as a tenant id; "" leaves it to the request.
TenantOf = Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Given:
    """What is known beside the body: the time (Unix ms), whose entries they may be, and the service that the key
    is bound to."""

    now_ms: int
    tenant_of: TenantOf
    service: str | None = None


def read_one(document: Any, given: Given) -> list[Entry]:
    """The body of POST /logs."""
    return [_entry(document, "", given)]


def read_batch(document: Any, given: Given) -> list[Entry]:
    """The body of POST /logs/batch."""
    if not isinstance(document, dict):
        raise InvalidField("the body must be an object")
    entries = document.get("entries")
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise InvalidField("must be an array", field="entries")
    if len(entries) > BATCH_ENTRIES_MAX:
        raise TooLarge(f"a batch holds at most {BATCH_ENTRIES_MAX} entries", field="entries")
    return [_entry(e, f"entries[{i}]", given) for i, e in enumerate(entries)]


def _entry(document: Any, path: str, given: Given) -> Entry:
    if not isinstance(document, dict):
        raise InvalidField("an entry must be an object", field=path or None)
    dot = f"{path}." if path else ""
    get = document.get
    name = given.service or fields.text(get("service_name"), f"{dot}service_name", SERVICE_CHARS_MAX)
    if name is None:
        raise InvalidField("is required", field=f"{dot}service_name")
    message = get("message")
    if message is None or message == "":
        raise InvalidField("is required", field=f"{dot}message")
    if not isinstance(message, str):
        raise InvalidField("must be a string", field=f"{dot}message")
    if len(message) * 4 > MESSAGE_BYTES_MAX and len(message.encode()) > MESSAGE_BYTES_MAX:
        raise InvalidField(f"is longer than {MESSAGE_BYTES_MAX} bytes", field=f"{dot}message")
    own_id = _id(get("id"), f"{dot}id")
    try:
        tenant_id = given.tenant_of(get("tenant_id"))
    except InvalidTenantId:
        raise InvalidTenantId(field=f"{dot}tenant_id") from None
    level = get("level")
    if level is not None and not isinstance(level, str):
        raise InvalidField("must be a string", field=f"{dot}level")
    time = get("timestamp")
    ts_ms = given.now_ms if time is None else fields.time_ms(time, f"{dot}timestamp", given.now_ms)
    unknown = {key: document[key] for key in document if key not in _KNOWN} if len(document) > 2 else {}
    metadata = fields.add_unknown(get("metadata"), unknown)
    texts: dict[str, Any] = {
        key: fields.text(document[key], dot + key, TEXT_CHARS_MAX[key]) for key in _TEXTS if key in document
    }
    return Entry(
        0, ts_ms, time is not None, number_of(level), (level or "info")[:LEVEL_CHARS_MAX], message,
        None if metadata is None else fields.encode_attrs(metadata, f"{dot}metadata"),
        own=Own(tenant_id, name, None, own_id), **texts,
    )  # fmt: skip


def _id(value: Any, field: str) -> bytes | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidId(field=field)
    try:
        return fields.read_id(value).bytes
    except InvalidId:
        raise InvalidId(field=field) from None
