"""Recount: what became of a request whose receipt was not heard, from the ledger alone.

Rows carry ids that follow from the request, so what this request stored is told apart from what was there
before it: the answer equals the receipt.
"""

from __future__ import annotations

from collections.abc import Mapping

from tracehub.pipeline.dedupe import judge
from tracehub.protocol import ranges as r
from tracehub.protocol.messages import Outcome, Request
from tracehub.protocol.ranges import EMPTY
from tracehub.storage.ports import ClaimedId, Ledger, Queue, StoredRow, in_flight_by_stream


async def recount(ledger: Ledger, queue: Queue, request: Request) -> Outcome | None:
    """The outcome, or None while some of its numbers are neither received nor lost. Raises Transient."""
    marks = (await queue.marks()).values()
    state = await ledger.state(request.stream, EMPTY)
    if state is None:
        return None
    given_up = r.normalise((first, last) for first, last, _ in request.lost)
    if await ledger.unresolved(state.stream_id, r.union(request.ranges, given_up), EMPTY):
        return None
    stored = await ledger.stored(state.stream_id, request.ranges)
    if request.stream.by_server and not await _all_stand(ledger, request, stored):
        return None  # closed as void: nobody stored them
    verdict = judge([request], [request.ranges], {request.stream: stored}, {request.stream: request.ranges})[
        0
    ]
    in_flight = in_flight_by_stream(marks, {request.stream: state.stream_id}).get(state.stream_id, EMPTY)
    state = await ledger.state(request.stream, r.subtract(in_flight, request.ranges)) or state
    return Outcome(
        verdict.accepted, verdict.duplicates, len(verdict.conflicts), "", state.ack_till,
        state.highest_seen, state.gaps.ranges, state.gaps.count,
    )  # fmt: skip


async def _all_stand(ledger: Ledger, request: Request, stored: Mapping[int, StoredRow]) -> bool:
    """Whether each entry has its row, or another one with the id that the client gave it."""
    claims: list[ClaimedId] = []
    for entry in request.entries:
        if entry.seq in stored:
            continue
        if entry.own is None or entry.own.id is None:
            return False
        claims.append(ClaimedId(entry.own.tenant_id, entry.own.id, entry.ts_ms))
    return not claims or len(await ledger.ids_stored(claims)) == len({(c.tenant_id, c.id) for c in claims})
