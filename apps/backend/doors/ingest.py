"""The door of the delivery protocol: POST /ingest, GET /ack/{service} (ingest.md §2)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial

import orjson
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from apps.backend.body import read_body, require_json
from apps.backend.context import Context, context, require
from apps.backend.cors import SHARED
from apps.backend.errors import INGEST, JSON
from apps.backend.faults import ACK_DELAY_S
from apps.backend.hygiene import HYGIENE, rendered, request_id_of
from apps.backend.live.snapshot import ack_of
from apps.backend.quick import Answer
from apps.backend.streams import asked_stream, in_flight
from apps.backend.submission import Pending
from tracehub.protocol.ack import Gaps, StreamState
from tracehub.protocol.entries import Batch, parse_batch
from tracehub.protocol.errors import REFUSALS, Forbidden, InvalidField, NetworkDropped, TraceHubError
from tracehub.protocol.grants import READ, WRITE, Caller
from tracehub.protocol.ids import ID_BASE_RANDOM_BYTES, id_base, sortable_id
from tracehub.protocol.messages import Outcome, StreamKey
from tracehub.protocol.messages import Request as StoreRequest
from tracehub.protocol.ranges import highest
from tracehub.protocol.reply import queued_reply, stored_reply
from tracehub.runtime.clock import monotonic_s

DOOR = "ingest"
_ALWAYS = rendered((*HYGIENE, *SHARED))
_JSON_HEAD = rendered([(b"content-type", JSON.media_type.encode())])


@dataclass(frozen=True, slots=True)
class Taken:
    """A batch that is on its way. `started_s`: when its request came (monotonic seconds)."""

    request: StoreRequest
    pending: Pending
    started_s: float


async def ingest(request: Request) -> Response:
    """Take a batch, wait for its commit, acknowledge."""
    started_s = monotonic_s()
    ctx = context(request)
    caller = ctx.access.require(request, WRITE)
    if ctx.faults.is_on("drop_network"):
        raise NetworkDropped(retry_after_s=1)
    acks = request.query_params.get("acks", "stored") if request.scope["query_string"] else "stored"
    if acks not in ("stored", "queued"):
        raise InvalidField("acks must be stored or queued", field="acks")
    require_json(request)
    body = await read_body(request, ctx.settings.body_timeout_s)
    taken = _hand_in(ctx, caller, _checked(ctx, caller, body), started_s)
    if acks == "stored":
        return await _answer(ctx, taken, await taken.pending.outcome)
    await taken.pending.queued
    return await _answer(ctx, taken, None, waits=False)


def _checked(ctx: Context, caller: Caller, body: bytes) -> StoreRequest:
    """What to store. Nothing was done yet when it raises."""
    batch = parse_batch(body, ctx.clock())
    if not caller.may_write(batch.service):
        raise Forbidden("this key writes another service")
    ctx.access.take(caller, len(batch.entries))
    return _request(ctx, caller.tenant_id, batch)


def _hand_in(ctx: Context, caller: Caller, to_store: StoreRequest, started_s: float) -> Taken:
    """From here on it is on its way. Raises Overloaded."""
    pending = ctx.submitter.submit(to_store, ctx.settings.ack_timeout_s - (monotonic_s() - started_s))
    ctx.board.on_received(caller.tenant_id, to_store.service, len(to_store.entries))
    ctx.metrics.tally.received += len(to_store.entries)
    return Taken(to_store, pending, started_s)


async def _answer(ctx: Context, taken: Taken, outcome: Outcome | None, *, waits: bool = True) -> Response:
    """`waits`: whether the client waited for the outcome; None when it is not known yet."""
    if outcome is not None and outcome.refused:
        raise REFUSALS.get(outcome.refused, TraceHubError)(retry_after_s=1)
    if ctx.faults.is_on("delay_ack"):
        await asyncio.sleep(ACK_DELAY_S)
    if outcome is None:
        reply = queued_reply(taken.request, await _state(ctx, taken.request.stream, needed=waits))
    else:
        reply = stored_reply(taken.request, outcome)
    _acknowledged(ctx, taken)
    return JSON(reply, 202 if outcome is None else 200)


def _acknowledged(ctx: Context, taken: Taken) -> None:
    elapsed_s = monotonic_s() - taken.started_s
    ctx.board.on_ack(elapsed_s)
    ctx.metrics.tally.on_ack(elapsed_s)


class QuickIngest:
    """What nearly every request is: JSON as it is, no parameters, no fault on, and stored. See quick.Quick."""

    target = b"/ingest"

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, scope: Scope, body: bytes, answer: Answer) -> bool:
        """See quick.Quick."""
        kind = given_id = None
        for name, value in scope["headers"]:
            if name == b"content-type":
                kind = value if kind is None else kind
            elif name == b"content-encoding":
                return False
            elif name == b"x-request-id":
                given_id = value if given_id is None else given_id
        ctx, started_s = self._ctx, monotonic_s()
        if kind != b"application/json" or ctx.faults.is_on("drop_network"):
            return False
        try:
            caller = ctx.access.require(HTTPConnection(scope), WRITE)
            to_store = _checked(ctx, caller, body)
        except Exception:
            return False  # the same comes of it the long way, and is told there
        head = b"%sx-request-id: %s\r\n" % (_ALWAYS, request_id_of(given_id or b""))
        try:
            taken = _hand_in(ctx, caller, to_store, started_s)
        except Exception as error:
            self._tell_at_length(_raised(error), head, answer)
        else:
            taken.pending.outcome.add_done_callback(partial(self._told, taken, head, answer))
        return True

    def _told(self, taken: Taken, head: bytes, answer: Answer, told: asyncio.Future[Outcome | None]) -> None:
        ctx = self._ctx
        try:
            outcome = told.result()
            if outcome is None or outcome.refused or ctx.faults.is_on("delay_ack"):
                self._tell_at_length(_answer(ctx, taken, outcome), head, answer)
                return
            reply = orjson.dumps(stored_reply(taken.request, outcome))
            _acknowledged(ctx, taken)
        except Exception as error:
            self._tell_at_length(_raised(error), head, answer)
            return
        ctx.metrics.tally.answers["ingest", 200] += 1
        answer(200, _JSON_HEAD + head, reply)

    def _tell_at_length(self, answering: Awaitable[Response], head: bytes, answer: Answer) -> None:
        async def tell() -> None:
            response = await INGEST.guarded(answering)
            own = rendered(header for header in response.raw_headers if header[0] != b"content-length")
            self._ctx.metrics.tally.answers["ingest", response.status_code] += 1
            answer(response.status_code, own + head, bytes(response.body))

        task = asyncio.create_task(tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _raised(error: Exception) -> Response:
    raise error


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
