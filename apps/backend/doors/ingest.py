"""The door of the delivery protocol: POST /ingest, GET /ack/{service} (ingest.md §2)."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.backend.body import read_body, require_json
from apps.backend.context import Context, context, require
from apps.backend.errors import JSON
from apps.backend.faults import ACK_DELAY_S
from apps.backend.live.snapshot import ack_of
from apps.backend.streams import asked_stream, in_flight
from tracehub.protocol.ack import Gaps, StreamState
from tracehub.protocol.entries import Batch, parse_batch
from tracehub.protocol.errors import REFUSALS, Forbidden, InvalidField, NetworkDropped, TraceHubError
from tracehub.protocol.grants import READ, WRITE
from tracehub.protocol.ids import ID_BASE_RANDOM_BYTES, id_base, sortable_id
from tracehub.protocol.messages import Request as StoreRequest
from tracehub.protocol.messages import StreamKey
from tracehub.protocol.ranges import highest
from tracehub.protocol.reply import queued_reply, stored_reply
from tracehub.runtime.clock import monotonic_s

DOOR = "ingest"


async def ingest(request: Request) -> Response:
    """Take a batch, wait for its commit, acknowledge."""
    started = monotonic_s()
    ctx = context(request)
    caller = ctx.access.require(request, WRITE)
    if ctx.faults.is_on("drop_network"):
        raise NetworkDropped(retry_after_s=1)
    acks = request.query_params.get("acks", "stored") if request.scope["query_string"] else "stored"
    if acks not in ("stored", "queued"):
        raise InvalidField("acks must be stored or queued", field="acks")
    require_json(request)
    body = await read_body(request, ctx.settings.body_timeout_s)
    batch = parse_batch(body, ctx.clock())
    if not caller.may_write(batch.service):
        raise Forbidden("this key writes another service")
    ctx.access.take(caller, len(batch.entries))
    to_store = _request(ctx, caller.tenant_id, batch)
    left_s = ctx.settings.ack_timeout_s - (monotonic_s() - started)
    pending = ctx.submitter.submit(to_store, left_s)
    ctx.board.on_received(caller.tenant_id, batch.service, len(batch.entries))
    ctx.metrics.tally.received += len(batch.entries)
    outcome = None
    if acks == "stored":
        outcome = await pending.outcome
    else:
        await pending.queued
    if outcome is not None and outcome.refused:
        raise REFUSALS.get(outcome.refused, TraceHubError)(retry_after_s=1)
    if ctx.faults.is_on("delay_ack"):
        await asyncio.sleep(ACK_DELAY_S)
    if outcome is None:
        answer = queued_reply(to_store, await _state(ctx, to_store.stream, needed=acks == "stored"))
    else:
        answer = stored_reply(to_store, outcome)
    elapsed = monotonic_s() - started
    ctx.board.on_ack(elapsed)
    ctx.metrics.tally.on_ack(elapsed)
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


async def _state(ctx: Context, stream: StreamKey, *, needed: bool) -> StreamState | None:
    """How far the stream is. Raises Transient where that is `needed`: who waits for a commit while Postgres is
    down is told so (503), not that the batch is queued."""
    try:
        flying = await in_flight(ctx, stream)
        state = await ctx.ledger.state(stream, flying)
    except TraceHubError:
        if needed:
            raise
        return None
    return state or StreamState(0, 0, highest(flying), Gaps())


async def ack(request: Request) -> Response:
    """How far a service is acknowledged: also for those who may only write, so that they can go on."""
    ctx = context(request)
    stream, flying = await asked_stream(ctx, request, require(request, READ, WRITE))
    return JSON(await ack_of(ctx.ledger, stream, flying))


ROUTES = [
    Route("/ingest", ingest, methods=["POST"]),
    Route("/ack/{service:path}", ack, methods=["GET"]),
]
