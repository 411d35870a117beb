"""The door of the delivery protocol: POST /ingest, GET /ack/{service} (ingest.md §2)."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.backend.body import read_body, require_json
from apps.backend.context import Context, context, tenant_of
from apps.backend.errors import JSON
from apps.backend.faults import ACK_DELAY_S
from apps.backend.live.snapshot import ack_of
from apps.backend.submission import Pending
from tracehub.protocol.entries import Batch, parse_batch
from tracehub.protocol.errors import REFUSALS, InvalidField, NetworkDropped, TraceHubError, UnknownService
from tracehub.protocol.ids import ID_BASE_RANDOM_BYTES, id_base, sortable_id
from tracehub.protocol.limits import EPOCH_MAX, MISSING_NAMED_MAX
from tracehub.protocol.messages import Outcome, StreamKey
from tracehub.protocol.messages import Request as StoreRequest
from tracehub.protocol.ranges import EMPTY, first_numbers
from tracehub.runtime.clock import monotonic_s
from tracehub.storage.ports import in_flight_by_stream

DOOR = "ingest"


async def ingest(request: Request) -> Response:
    """Take a batch, wait for its commit, acknowledge."""
    started = monotonic_s()
    ctx = context(request)
    if ctx.faults.is_on("drop_network"):
        raise NetworkDropped(retry_after_s=1)
    acks = request.query_params.get("acks", "stored")
    if acks not in ("stored", "queued"):
        raise InvalidField("acks must be stored or queued", field="acks")
    require_json(request)
    body = await read_body(request, ctx.settings.body_timeout_s)
    batch = parse_batch(body, ctx.clock())
    to_store = _request(ctx, tenant_of(request), batch)
    pending = ctx.submitter.submit(to_store)
    ctx.board.on_received(len(batch.entries))
    ctx.metrics.received.inc(len(batch.entries))
    if acks == "queued":
        await asyncio.shield(pending.queued)
        outcome = None
    else:
        outcome = await _outcome(ctx, pending, started)
    if ctx.faults.is_on("delay_ack"):
        await asyncio.sleep(ACK_DELAY_S)
    answer = await _queued(ctx, to_store) if outcome is None else _stored(to_store, outcome)
    elapsed = monotonic_s() - started
    ctx.board.on_ack(elapsed)
    ctx.metrics.ack.observe(elapsed)
    return JSON(answer, 202 if outcome is None else 200)


def _request(ctx: Context, tenant_id: str, batch: Batch) -> StoreRequest:
    now = ctx.clock()
    return StoreRequest(
        StreamKey(tenant_id, batch.service, batch.epoch),
        DOOR,
        batch.service,
        batch.batch_id or sortable_id(now, ctx.random(10)),
        id_base(now, ctx.random(ID_BASE_RANDOM_BYTES)),
        batch.ranges,
        batch.entries,
        batch.start,
        batch.lost,
    )


async def _outcome(ctx: Context, pending: Pending, started: float) -> Outcome | None:
    left = ctx.settings.ack_timeout_s - (monotonic_s() - started)
    outcome = await ctx.submitter.outcome(pending, max(left, 0.001))
    if outcome is not None and outcome.refused:
        raise REFUSALS.get(outcome.refused, TraceHubError)(retry_after_s=1)
    return outcome


def _stored(request: StoreRequest, outcome: Outcome) -> dict[str, Any]:
    return {
        "batchId": request.batch_id,
        "epoch": request.stream.epoch,
        "ackTill": outcome.ack_till,
        "missing": first_numbers(outcome.missing, MISSING_NAMED_MAX),
        "status": "partial" if outcome.missing_count else "ok",
        "replay": {"queued": outcome.replay_queued},
        "missingCount": outcome.missing_count,
        "missingRanges": outcome.missing,
        "highestSeen": outcome.highest_seen,
        "accepted": outcome.accepted,
        "duplicates": outcome.duplicates,
        "conflicts": outcome.conflicts,
        "queued": 0,
    }


async def _queued(ctx: Context, request: StoreRequest) -> dict[str, Any]:
    """The job still waits: nothing is said of it, but `ackTill` is true all the same."""
    state = {"ackTill": 0, "missing": [], "missingCount": 0, "missingRanges": [], "highestSeen": 0}
    try:
        found = await _ack(ctx, request.stream)
        state |= {name: found[name] for name in state}
    except TraceHubError:
        pass  # the ledger cannot be asked now; 0 is true of every stream
    return {
        "batchId": request.batch_id,
        "epoch": request.stream.epoch,
        **state,
        "status": "queued",
        "replay": {"queued": 0},
        "accepted": 0,
        "duplicates": 0,
        "conflicts": 0,
        "queued": len(request.entries),
    }


async def _ack(ctx: Context, stream: StreamKey) -> dict[str, Any]:
    marks = (await ctx.queue.marks()).values()
    in_flight = in_flight_by_stream(marks, {stream: 0}).get(0, EMPTY)
    return await ack_of(ctx.ledger, stream, in_flight)


async def ack(request: Request) -> Response:
    """How far a service is acknowledged."""
    ctx = context(request)
    tenant_id, service = tenant_of(request), request.path_params["service"]
    text = request.query_params.get("epoch", "")
    epochs = await ctx.ledger.epochs(tenant_id, service)
    if text:
        if not text.isascii() or not text.isdigit() or len(text) > 16 or int(text) > EPOCH_MAX:
            raise InvalidField("must be an integer of at least 0", field="epoch")
        if int(text) not in epochs:
            raise UnknownService
    elif not epochs:
        raise UnknownService
    epoch = int(text) if text else epochs[-1]
    return JSON(await _ack(ctx, StreamKey(tenant_id, service, epoch)))


ROUTES = [
    Route("/ingest", ingest, methods=["POST"]),
    Route("/ack/{service:path}", ack, methods=["GET"]),
]
