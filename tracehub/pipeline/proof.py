"""The proof (ingest.md §9): produced = stored + in buffer + lost, per stream.

How it stays true while everything moves: buffers and marks are read before the ledger, so a number that is
on its way is seen at least once; produced = max(meta.next - 1, highest seen). Only a number that was made after the
look into its buffer, and is overtaken by a later one, is seen nowhere: a stream that does not balance is looked at
again before anybody is told. What is in none of the three then is `unaccounted`: a gap that is still open, or a
number whose job waits while its producer has no buffer.
A buffer out of reach is said, and is not a failure. Rows are counted by verify.py, not here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tracehub.protocol import ranges as r
from tracehub.protocol.errors import Transient
from tracehub.protocol.messages import Mark, StreamKey
from tracehub.protocol.ranges import EMPTY, Ranges
from tracehub.storage.ports import BufferMeta, Buffers, Queue, in_flight_by_stream


class ProofLedger(Protocol):
    """What the proof reads of the ledger."""

    async def proof(self, tenant_id: str, service: str | None) -> list[dict[str, Any]]:
        """Streams with stream_id, service, epoch, highest, received, lost, expired, duplicates, conflicts."""

    async def proof_of_buffer(self, stream_id: int, buffered: Ranges, in_flight: Ranges) -> dict[str, Any]:
        """buffered, in_flight: what of these is neither received nor lost; received, lost, highest anew."""


@dataclass(frozen=True, slots=True)
class Buffered:
    """One service's buffer at one moment. `state`: ok, absent or unreachable."""

    state: str
    meta: BufferMeta
    numbers: Ranges = EMPTY


LOOKS_MAX = 3
NO_META = BufferMeta(None, None, None, 0)


async def look_into(buffers: Buffers, tenant_id: str, service: str) -> Buffered:
    """Meta and numbers of a buffer."""
    try:
        meta, numbers = await buffers.numbers(tenant_id, service)
    except Transient:
        return Buffered("unreachable", NO_META)
    if meta.epoch is None and not meta.entries:
        return Buffered("absent", meta)
    return Buffered("ok", meta, numbers)


async def prove(
    ledger: ProofLedger, buffers: Buffers, queue: Queue, *, tenant_id: str, service: str | None = None
) -> dict[str, Any]:
    """The proof of a tenant, or of one service: `{balanced, totals, streams, epochBreaks}`."""
    names = sorted({row["service"] for row in await ledger.proof(tenant_id, service)})
    looks = {name: await look_into(buffers, tenant_id, name) for name in names if not name.startswith("@")}
    marks = await queue.marks()
    rows = await ledger.proof(tenant_id, service)
    newest = {row["service"]: row["epoch"] for row in rows}
    streams: list[dict[str, Any]] = []
    for row in rows:
        look = looks.get(row["service"], Buffered("absent", NO_META))
        told = await _of_stream(ledger, tenant_id, row, look=look, marks=marks)
        for _ in range(LOOKS_MAX - 1):
            if told["balanced"] or told["buffer"] != "ok":  # else there is nothing to look into again
                break
            look = await look_into(buffers, tenant_id, row["service"])
            marks = await queue.marks()
            for now in await ledger.proof(tenant_id, row["service"]):
                if now["epoch"] == row["epoch"]:
                    told = await _of_stream(ledger, tenant_id, now, look=look, marks=marks)
        streams.append(told)
    return {
        "balanced": all(s["balanced"] for s in streams),
        "totals": {
            name: sum(s[name] for s in streams)
            for name in (
                "produced", "stored", "buffered", "inFlight", "lost", "unaccounted", "duplicates",
                "conflicts", "expired", "void",
            )
        },
        "streams": streams,
        "epochBreaks": [
            {"service": s["service"], "epoch": s["epoch"], "note": "tail unknown"}
            for s in streams
            if s["epoch"] != newest[s["service"]] and not s["service"].startswith("@")
        ],
    }  # fmt: skip


def together(proofs: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The proofs of several tenants as one; streams and breaks say whose they are."""

    def told(name: str) -> list[dict[str, Any]]:
        return [{"tenant_id": tenant, **one} for tenant, proof in proofs.items() for one in proof[name]]

    totals: Counter[str] = Counter()
    for proof in proofs.values():
        totals.update(proof["totals"])
    return {
        "balanced": all(proof["balanced"] for proof in proofs.values()),
        "totals": dict(totals),
        "streams": told("streams"),
        "epochBreaks": told("epochBreaks"),
    }


async def _of_stream(
    ledger: ProofLedger, tenant_id: str, row: dict[str, Any], *, look: Buffered, marks: Mapping[str, Mark]
) -> dict[str, Any]:
    key = StreamKey(tenant_id, row["service"], row["epoch"])
    in_flight = in_flight_by_stream(marks.values(), {key: row["stream_id"]}).get(row["stream_id"], EMPTY)
    if look.meta.epoch is not None and look.meta.epoch != row["epoch"]:
        look = Buffered("other_epoch", NO_META)
    counts = await ledger.proof_of_buffer(row["stream_id"], look.numbers, in_flight)
    return _balance(row, counts, look, r.highest(in_flight))


def _balance(
    row: dict[str, Any], counts: dict[str, Any], look: Buffered, in_flight_highest: int
) -> dict[str, Any]:
    next_seq = look.meta.next or 1
    produced = max(next_seq - 1, counts["highest"], in_flight_highest)
    if row["service"].startswith("@"):
        # The server numbers here; what it gave to nobody is void.
        produced = counts["received"] + counts["lost"] + row["void"] + counts["in_flight"]
    unaccounted = produced - counts["received"] - counts["lost"] - counts["buffered"] - row["void"]
    return {
        "service": row["service"],
        "epoch": row["epoch"],
        "ackTill": row["ack_till"],
        "produced": produced,
        "stored": counts["received"],
        "buffered": counts["buffered"],
        "inFlight": counts["in_flight"],
        "lost": counts["lost"],
        "unaccounted": unaccounted,
        "duplicates": row["duplicates"],
        "conflicts": row["conflicts"],
        "expired": row["expired"],
        "void": row["void"],
        "buffer": look.state,
        "balanced": unaccounted == 0,
    }
