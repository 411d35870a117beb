"""Entries as the log service takes them (log-service.md §3): a document in, canonical entries out. Pure.

Numbers are given later (messages.place). Raises InvalidField, InvalidId, InvalidTenantId, TooLarge; `field` names the
first bad value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from tracehub.protocol import fields
from tracehub.protocol.errors import InvalidField, InvalidId, InvalidTenantId, TooLarge
from tracehub.protocol.limits import (
    BATCH_ENTRIES_MAX,
    LEVEL_CHARS_MAX,
    MESSAGE_BYTES_MAX,
    SERVICE_CHARS_MAX,
)
from tracehub.protocol.messages import Entry, Own
from tracehub.protocol.severity import number_of
from tracehub.protocol.shapes import EntryId, Tenant, Time, entry_text, shaped

# A key that is bound to a service stands for it, whatever is said here.
ServiceName = Annotated[
    Any,
    Meta(
        description="required, but from a key that is bound to a service",
        extra_json_schema={"type": "string", "minLength": 1, "maxLength": SERVICE_CHARS_MAX},
    ),
]


class LogEntryBody(msgspec.Struct, kw_only=True, gc=False):
    """An entry as it is sent; null and "" are absent, and any other key goes into metadata."""

    service_name: ServiceName = None
    message: Annotated[str, Meta(min_length=1, max_length=MESSAGE_BYTES_MAX)]
    level: str | None = None
    id: EntryId = None
    tenant_id: Tenant = None
    timestamp: Time | None = None
    metadata: Any = None
    trace_id: entry_text("trace_id") = None  # type: ignore[valid-type]
    span_id: entry_text("span_id") = None  # type: ignore[valid-type]
    request_id: entry_text("request_id") = None  # type: ignore[valid-type]
    user_id: entry_text("user_id") = None  # type: ignore[valid-type]
    source: entry_text("source") = None  # type: ignore[valid-type]
    host: entry_text("host") = None  # type: ignore[valid-type]
    environment: entry_text("environment") = None  # type: ignore[valid-type]


class LogBatchBody(msgspec.Struct):
    """The body of POST /logs/batch. This type only describes: its entries are looked at one by one."""

    entries: Annotated[list[LogEntryBody], Meta(max_length=BATCH_ENTRIES_MAX)] | None = None


class _Entries(msgspec.Struct):
    entries: list[Any] | None = None


_KNOWN: Final = frozenset(LogEntryBody.__struct_fields__)

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
    return [_entry(shaped(document, LogEntryBody), document, "", given)]


def read_batch(document: Any, given: Given) -> list[Entry]:
    """The body of POST /logs/batch."""
    entries = shaped(document, _Entries).entries or ()
    if len(entries) > BATCH_ENTRIES_MAX:
        raise TooLarge(f"a batch holds at most {BATCH_ENTRIES_MAX} entries", field="entries")
    bodies: Sequence[LogEntryBody | None]
    try:
        bodies = shaped(entries, list[LogEntryBody])
    except InvalidField:
        bodies = [None] * len(entries)  # one by one, so that the first bad field is named
    return [
        _entry(body or shaped(entry, LogEntryBody, f"entries[{place}]"), entry, f"entries[{place}].", given)
        for place, (body, entry) in enumerate(zip(bodies, entries, strict=True))
    ]


def _entry(body: LogEntryBody, document: dict[str, Any], at: str, given: Given) -> Entry:
    name = given.service or fields.text(body.service_name, f"{at}service_name", SERVICE_CHARS_MAX)
    if not name:
        raise InvalidField("is required", field=f"{at}service_name")
    message = body.message
    if len(message) * 4 > MESSAGE_BYTES_MAX and len(message.encode()) > MESSAGE_BYTES_MAX:
        raise InvalidField(f"is longer than {MESSAGE_BYTES_MAX} bytes", field=f"{at}message")
    own_id = _id(body.id, f"{at}id")
    try:
        tenant_id = given.tenant_of(body.tenant_id)
    except InvalidTenantId:
        raise InvalidTenantId(field=f"{at}tenant_id") from None
    time, level = body.timestamp, body.level
    ts_ms = given.now_ms if time is None else fields.time_ms(time, f"{at}timestamp", given.now_ms)
    unknown = (
        {} if document.keys() <= _KNOWN else {key: document[key] for key in document if key not in _KNOWN}
    )
    metadata = fields.add_unknown(body.metadata, unknown)
    return Entry(
        0, ts_ms, time is not None, number_of(level), (level or "info")[:LEVEL_CHARS_MAX], message,
        None if metadata is None else fields.encode_attrs(metadata, f"{at}metadata"),
        trace_id=body.trace_id or None, span_id=body.span_id or None, request_id=body.request_id or None,
        user_id=body.user_id or None, source=body.source or None, host=body.host or None,
        environment=body.environment or None, own=Own(tenant_id, name, None, own_id),
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
