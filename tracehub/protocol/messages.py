"""What travels between our own processes: jobs, marks, receipts. Versioned msgpack, never pickle.

Invariants: a `Request` is one door's batch of one stream and is stored in one transaction; `id_base + index`
is the id of its entries, so a job that runs twice gives its rows the same ids and its receipt the same
counts; a `Mark` names exactly the numbers that its job holds.
Limits: limits.py. Not here: the public wire (entries.py, the doors).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tracehub.protocol.ranges import Ranges


class Own(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What an entry has of its own where a door takes entries of many services in one request. `id`: 16 bytes
    that the client chose, or None."""

    tenant_id: str
    service: str
    batch_id: str | None = None
    id: bytes | None = None


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A canonical entry, as far as it varies within a request. `attrs` is JSON text or None; `own` is None where
    tenant, service and batch are the request's."""

    seq: int
    ts_ms: int
    ts_given: bool
    severity: int
    level: str
    message: str
    attrs: bytes | None = None
    trace_id: str | None = None
    span_id: str | None = None
    request_id: str | None = None
    user_id: str | None = None
    category: str | None = None
    source: str | None = None
    host: str | None = None
    environment: str | None = None
    user_agent: str | None = None
    release: str | None = None
    app_id: str | None = None
    own: Own | None = None


class StreamKey(msgspec.Struct, array_like=True, frozen=True, gc=False, order=True):
    """The name of a numbering: (tenant, service or `@door`, epoch)."""

    tenant_id: str
    numbering: str
    epoch: int

    @property
    def by_server(self) -> bool:
        """The server gives the numbers: a gap is a number that nobody got, and no producer can fill it."""
        return self.numbering.startswith("@")


class Once(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An Idempotency-Key: digests of where it counts (tenant, key, method, path) and of the body."""

    scope: bytes
    body: bytes


class Request(msgspec.Struct, array_like=True, frozen=True):
    """One batch of one stream. `ranges` are the numbers of `entries`; `id_base` is a UUIDv7 as 16 bytes."""

    stream: StreamKey
    door: str
    service: str
    batch_id: str
    id_base: bytes
    ranges: Ranges
    entries: list[Entry]
    start: int | None = None
    lost: tuple[tuple[int, int, str], ...] = ()
    retried_dead_letter: bool = False
    once: Once | None = None


class Job(msgspec.Struct, array_like=True, frozen=True):
    """What one queue job holds. `backend` is the process that waits for the receipt ("" = nobody)."""

    format: int
    id: str
    backend: str
    requests: list[Request]


class MarkedStream(msgspec.Struct, array_like=True, frozen=True):
    """Numbers of one stream that are in flight."""

    stream: StreamKey
    ranges: Ranges


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """The in-flight mark of a job: its numbers, entries and bytes; written in the same script as the job."""

    streams: tuple[MarkedStream, ...]
    entries: int
    bytes: int
    queued_ms: int


class Outcome(msgspec.Struct, array_like=True, frozen=True):
    """What became of one request. `refused` is an error code of ingest.md §2, or empty. `created_ms`: when its
    rows were written; 0 where only the ledger was asked."""

    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    refused: str = ""
    ack_till: int = 0
    highest_seen: int = 0
    missing: Ranges = ()
    missing_count: int = 0
    replay_queued: int = 0
    created_ms: int = 0


class Receipt(msgspec.Struct, array_like=True, frozen=True):
    """The outcomes of a job's requests, in their order."""

    job_id: str
    outcomes: list[Outcome]


class Committed(msgspec.Struct, array_like=True, frozen=True):
    """What a transaction stored, by reference: numbers of streams (ids), and whose entries they are."""

    tenants: list[str]
    stretches: list[tuple[int, Ranges]]
    entries: int


class LiveMessage(msgspec.Struct, frozen=True):
    """One message of the live bus: an event name and its payload."""

    event: str
    data: dict[str, Any]

    def shown(self) -> dict[str, Any]:
        """The payload for viewers, who need not be told their tenant."""
        return {key: value for key, value in self.data.items() if key != "tenant"}


_encoder = msgspec.msgpack.Encoder()
_job_decoder = msgspec.msgpack.Decoder(Job)
_mark_decoder = msgspec.msgpack.Decoder(Mark)
_receipts_decoder = msgspec.msgpack.Decoder(list[Receipt])
_live_decoder = msgspec.msgpack.Decoder(LiveMessage)
_entry_decoder = msgspec.msgpack.Decoder(Entry)

encode = _encoder.encode
decode_job = _job_decoder.decode
decode_mark = _mark_decoder.decode
decode_receipts = _receipts_decoder.decode
decode_live = _live_decoder.decode
# The shown entries of a `stored` message are bytes within it: a backend without viewers never reads them.
encode_shown = _encoder.encode
decode_shown = msgspec.msgpack.Decoder(list[dict[str, Any]]).decode
decode_committed = msgspec.msgpack.Decoder(Committed).decode
decode_entry = _entry_decoder.decode


def place(entries: Sequence[Entry], first: int, tenant_id: str, service: str | None = None) -> None:
    """Give fresh entries of a door their numbers from `first` on, the tenant where they have none, and the service
    where the key decides it. Only who made the entries may do this, before anybody else has seen them."""
    give = msgspec.structs.force_setattr
    for seq, entry in enumerate(entries, first):
        give(entry, "seq", seq)
        own = entry.own
        assert own is not None
        if not own.tenant_id:
            give(own, "tenant_id", tenant_id)
        if service is not None:
            give(own, "service", service)


def by_service(request: Request, left_out: set[int]) -> dict[tuple[str, str], list[Entry]]:
    """The entries of a request by (tenant, service), without those at the places `left_out`."""
    kept = request.entries
    if left_out:
        kept = [entry for index, entry in enumerate(kept) if index not in left_out]
    if not request.stream.by_server:
        return {(request.stream.tenant_id, request.service): kept}
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in kept:
        assert entry.own is not None
        groups.setdefault((entry.own.tenant_id, entry.own.service), []).append(entry)
    return groups


def id_of(request: Request, index: int) -> bytes:
    """The id of an entry: the client's, else the one that follows from its place."""
    own = request.entries[index].own
    return entry_id(request.id_base, index) if own is None or own.id is None else own.id


def entry_id(id_base: bytes, index: int) -> bytes:
    """The 16-byte id of the entry at `index` of its request; ascending within the request."""
    return (int.from_bytes(id_base, "big") + index).to_bytes(16, "big")
