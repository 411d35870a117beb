"""The number line of one service: GET /sequence/{service}, what the sequence strip draws.

Each kind of number as ascending, inclusive ranges within the window, at most RANGES_MAX of a kind; `coarse` names
the kinds that have more: theirs are widened until they fit, so that a drawing leaves nothing out.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.backend.context import context, query_int, require
from apps.backend.errors import JSON
from apps.backend.streams import asked_stream
from tracehub.protocol import ranges as r
from tracehub.protocol.ack import Gaps, StreamState
from tracehub.protocol.errors import InvalidField
from tracehub.protocol.grants import READ
from tracehub.protocol.limits import SEQ_MAX

RANGES_MAX = 1_000
KINDS = ("stored", "lost", "missing", "replaying", "expired")


async def sequence(request: Request) -> Response:
    """Stored, in flight, missing, replaying, lost and expired numbers between `from` and `to`."""
    ctx = context(request)
    stream, flying = await asked_stream(ctx, request, require(request, READ))
    # Without a row in the ledger its first batch still waits.
    state = await ctx.ledger.state(stream, flying) or StreamState(0, 0, r.highest(flying), Gaps())
    first = max(1, query_int(request, "from", 1, SEQ_MAX))
    last = query_int(request, "to", max(state.highest_seen, 1), SEQ_MAX)
    if first > last:
        raise InvalidField("from must not be above to", field="from")
    shown = await ctx.reading.sequence(state.stream_id, (first, last), flying, RANGES_MAX)
    in_window = r.intersect(flying, ((first, last),))
    answer: dict[str, Any] = {
        "service": stream.numbering,
        "epoch": stream.epoch,
        "epochs": await ctx.ledger.epochs(stream.tenant_id, stream.numbering),
        "from": first,
        "to": last,
        "ackTill": state.ack_till,
        "highestSeen": state.highest_seen,
        "inFlight": r.widened(in_window, (first, last), RANGES_MAX),
        **{kind: shown.get(kind, []) for kind in KINDS},
        "coarse": shown["coarse"] + ["inFlight"] * (len(in_window) > RANGES_MAX),
    }
    return JSON(answer)


ROUTES = [Route("/sequence/{service:path}", sequence, methods=["GET"])]
