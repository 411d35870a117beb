"""What operators read and do: services, proof, replays, dead letters (ingest.md §2, §4, §9)."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.backend.body import read_body
from apps.backend.context import (
    Context,
    asked_service,
    context,
    query_int,
    query_text,
    require,
    require_admin,
    row_id,
)
from apps.backend.errors import JSON
from apps.backend.live.view import View
from apps.backend.streams import in_flight
from tracehub.pipeline.proof import prove, together
from tracehub.protocol.errors import Conflict, InvalidField, NotFound, Unavailable, UnknownService
from tracehub.protocol.fields import read_object
from tracehub.protocol.grants import READ, Caller
from tracehub.protocol.limits import EPOCH_MAX, REPLAY_RANGE_MAX, SEQ_MAX
from tracehub.protocol.logentry import log_entry
from tracehub.protocol.messages import Request as StoreRequest
from tracehub.protocol.messages import StreamKey, decode_entry
from tracehub.protocol.shapes import shaped
from tracehub.protocol.times import iso, unix_ms
from tracehub.storage.postgres.reading import LedgerReading

PAGE_DEFAULT, PAGE_MAX, OFFSET_MAX = 100, 1_000, 1_000_000
REPLAY_STATUSES = ("pending", "running", "completed", "lost")
SMALL_BODY_BYTES_MAX = 64 * 1024


class ReplayBody(msgspec.Struct):
    """The body of POST /replay: numbers of a service, of its newest epoch unless one is named."""

    service: Annotated[str, Meta(min_length=1)]
    first: Annotated[int, Meta(ge=1, le=SEQ_MAX)] = field(name="from")
    last: Annotated[int, Meta(ge=1, le=SEQ_MAX)] = field(name="to")
    epoch: Annotated[int, Meta(ge=0, le=EPOCH_MAX)] | None = None


async def services(request: Request) -> Response:
    """GET /services: every service, how far it is acknowledged and what it lacks."""
    return JSON(await context(request).snapshots.services(View.of(require(request, READ))))


async def proof(request: Request) -> Response:
    """GET /proof: of every service what was produced, and where each of it is."""
    ctx, caller = context(request), require(request, READ)
    service = asked_service(request, caller)
    ledger = ctx.reading if caller.is_admin else _Clients(ctx.reading)
    if not caller.all_tenants:
        return JSON(await prove(ledger, ctx.buffers, ctx.queue, tenant_id=caller.tenant_id, service=service))
    proofs = {
        tenant_id: await prove(ledger, ctx.buffers, ctx.queue, tenant_id=tenant_id, service=service)
        for tenant_id in sorted({caller.tenant_id, *await ctx.reading.tenants()})
    }
    return JSON(together(proofs))


class _Clients:
    """The ledger without the numberings that the server gives: only admins see those."""

    def __init__(self, reading: LedgerReading) -> None:
        self._reading = reading
        self.proof_of_buffer = reading.proof_of_buffer

    async def proof(self, tenant_id: str, service: str | None) -> list[dict[str, Any]]:
        rows = await self._reading.proof(tenant_id, service)
        return [row for row in rows if not row["service"].startswith("@")]


async def replays(request: Request) -> Response:
    """GET /replay: gaps that are, or were, fetched again, newest first."""
    ctx, caller = context(request), require(request, READ)
    status = query_text(request, "status")
    if status is not None and status not in REPLAY_STATUSES:
        raise InvalidField(f"must be one of {', '.join(REPLAY_STATUSES)}", field="status")
    limit, offset = _page(request)
    rows = await ctx.reading.replays(
        caller.readable_tenant,
        status=status,
        service=asked_service(request, caller),
        limit=limit,
        offset=offset,
    )
    total = rows[0]["total"] if rows else 0
    return JSON({"total": total, "limit": limit, "offset": offset, "replays": [_replay(row) for row in rows]})


async def request_replay(request: Request) -> Response:
    """POST /replay: fetch a range of numbers again from the producer's buffer."""
    ctx, caller = context(request), require_admin(request)
    body = shaped(await small_body(request), ReplayBody)
    service, first, last = body.service, body.first, body.last
    if not caller.may_touch(service):
        raise UnknownService
    if first > last:
        raise InvalidField("from must not be above to", field="from")
    if last - first + 1 > REPLAY_RANGE_MAX:
        raise InvalidField(f"a replay covers at most {REPLAY_RANGE_MAX} numbers", field="to")
    tenant_id = caller.tenant_id
    epochs = await ctx.ledger.epochs(tenant_id, service)
    epoch = body.epoch if body.epoch is not None else (epochs or [-1])[-1]
    if epoch not in epochs:
        raise UnknownService
    stream = StreamKey(tenant_id, service, epoch)
    stream_id = (await ctx.ledger.resolve([stream]))[stream]
    replay_id = await ctx.ledger.request_replay(stream_id, first, last)
    await ctx.queue.enqueue_replay(stream, 0)
    return JSON({"id": replay_id}, 202)


async def abandon_replay(request: Request) -> Response:
    """POST /replay/{id}/abandon: give up what is still missing; it is signed off as lost."""
    ctx, caller = context(request), require_admin(request)
    await small_body(request)
    row = await ctx.reading.replay(caller.tenant_id, row_id(request), caller.app_key)
    if row is None:
        raise NotFound("there is no replay of this id")
    if row["status"] in ("completed", "lost"):
        raise Conflict("this replay is finished")
    stream = StreamKey(str(row["tenant_id"]), row["service"], row["epoch"])
    flying = await in_flight(ctx, stream)
    count, completed = await ctx.ledger.sign_off(
        row["stream_id"], ((row["from_seq"], row["to_seq"]),), flying, reason="operator", by="operator"
    )
    for done in completed:
        await ctx.queue.publish(
            "replay:completed",
            {
                "tenant": stream.tenant_id, "id": done.id, "service": stream.numbering, "epoch": stream.epoch,
                "from": done.first, "to": done.last, "count": done.count, "latencyMs": done.latency_ms,
            },
        )  # fmt: skip
    return JSON({"id": row["id"], "lost": count})


async def dead_letters(request: Request) -> Response:
    """GET /dead-letters: entries that the store refused, newest first."""
    ctx, caller = context(request), require(request, READ)
    limit, offset = _page(request)
    rows = await ctx.reading.dead_letters(
        caller.readable_tenant,
        service=asked_service(request, caller),
        reason=query_text(request, "reason"),
        limit=limit,
        offset=offset,
    )
    total = rows[0]["total"] if rows else 0
    return JSON(
        {"total": total, "limit": limit, "offset": offset, "deadLetters": [_letter(row) for row in rows]}
    )


async def retry_dead_letter(request: Request) -> Response:
    """POST /dead-letters/{id}/retry: store a dead letter after all; its number moves from lost to received."""
    ctx, caller = context(request), require_admin(request)
    await small_body(request)
    row = await _dead_letter(ctx, request, caller)
    if row["reason"] == "conflict":
        raise Conflict("the number is stored with other content; this entry can only be discarded")
    # It keeps its id: refused again it is the same letter, tried twice by mistake it is one row.
    outcome = await ctx.submitter.submit(_as_request(row), ctx.settings.ack_timeout_s).outcome
    if outcome is None:
        raise Unavailable("the entry waits in the queue; look again", retry_after_s=1)
    still = await ctx.reading.dead_letters(caller.tenant_id, letter_id=row["id"])
    if still:
        raise Conflict("the store still refuses this entry")
    return JSON({"id": row["id"], "status": "stored", "ackTill": outcome.ack_till})


async def delete_dead_letter(request: Request) -> Response:
    """DELETE /dead-letters/{id}: discard a dead letter; its number stays signed off."""
    ctx, caller = context(request), require_admin(request)
    if not await ctx.reading.delete_dead_letter(caller.tenant_id, row_id(request), caller.app_key):
        raise NotFound("there is no dead letter of this id")
    return Response(status_code=204)


async def small_body(request: Request) -> dict[str, Any]:
    """The JSON object in the body of a route that changes settings (see require_admin); may be empty."""
    text = await read_body(request, context(request).settings.body_timeout_s, SMALL_BODY_BYTES_MAX)
    return read_object(text) if text.strip() else {}


def _page(request: Request) -> tuple[int, int]:
    limit = query_int(request, "limit", PAGE_DEFAULT, PAGE_MAX)
    return max(1, limit), query_int(request, "offset", 0, OFFSET_MAX)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else iso(unix_ms(moment))


def _replay(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "service": row["service"],
        "epoch": row["epoch"],
        "from": row["from_seq"],
        "to": row["to_seq"],
        "status": row["status"],
        "requestedBy": row["requested_by"],
        "attempts": row["attempts"],
        "found": row["found"],
        "inserted": row["inserted"],
        "createdAt": _time(row["created_at"]),
        "completedAt": _time(row["completed_at"]),
        "latencyMs": row["latency_ms"],
        "error": row["error"],
    }


def _as_request(row: dict[str, Any]) -> StoreRequest:
    entry = decode_entry(row["payload"])
    stream = StreamKey(str(row["tenant_id"]), row["service"], row["epoch"])
    return StoreRequest(
        stream, row["door"], row["service"], row["batch_id"], uuid.UUID(str(row["entry_id"])).bytes,
        ((entry.seq, entry.seq),), [entry],
    )  # fmt: skip


def _letter(row: dict[str, Any]) -> dict[str, Any]:
    try:
        payload: dict[str, Any] | None = log_entry(_as_request(row), 0, unix_ms(row["created_at"]))
    except (msgspec.DecodeError, ValueError):
        payload = None  # written by another version
    return {
        "id": row["id"],
        "service": row["service"],
        "epoch": row["epoch"],
        "seq": row["seq"],
        "batchId": row["batch_id"],
        "reason": row["reason"],
        "error": row["error"],
        "retries": row["retries"],
        "createdAt": _time(row["created_at"]),
        "payload": payload,
    }


async def _dead_letter(ctx: Context, request: Request, caller: Caller) -> dict[str, Any]:
    rows = await ctx.reading.dead_letters(caller.tenant_id, service=caller.app_key, letter_id=row_id(request))
    if not rows:
        raise NotFound("there is no dead letter of this id")
    return rows[0]


ROUTES = [
    Route("/services", services, methods=["GET"]),
    Route("/proof", proof, methods=["GET"]),
    Route("/replay", replays, methods=["GET"]),
    Route("/replay", request_replay, methods=["POST"]),
    Route("/replay/{id:int}/abandon", abandon_replay, methods=["POST"]),
    Route("/dead-letters", dead_letters, methods=["GET"]),
    Route("/dead-letters/{id:int}/retry", retry_dead_letter, methods=["POST"]),
    Route("/dead-letters/{id:int}", delete_dead_letter, methods=["DELETE"]),
]
