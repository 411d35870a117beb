"""What every writing door does behind its dialect: numbers, submission, the wait for the commit, and requests that
mean once (log-service.md §1.1, §1.2).

Guarantee: what `write` returns is committed in Postgres, in one transaction. Raises Overloaded, Unavailable,
InFlight, IdempotencyMismatch; after a time-out the outcome is all or nothing, but unknown.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from apps.backend.context import Context
from tracehub.pipeline.store import REPEATED
from tracehub.protocol.errors import (
    REFUSALS,
    IdempotencyMismatch,
    InFlight,
    InvalidField,
    TraceHubError,
    Unavailable,
)
from tracehub.protocol.grants import Caller
from tracehub.protocol.ids import ID_BASE_RANDOM_BYTES, id_base, ms_of
from tracehub.protocol.messages import Entry, Once, Outcome, id_of, place
from tracehub.protocol.messages import Request as StoreRequest
from tracehub.runtime.clock import monotonic_s
from tracehub.storage.redis import keys

RETRY_AFTER_S: Final = 1
_KEY = re.compile(r"[!-~]{1,255}").fullmatch

# (now in Unix ms, the id of the first entry) to entries without numbers: the same for the same arguments, so an
# answer can be made again from its body.
Read = Callable[[int, bytes], list[Entry]]


@dataclass(frozen=True, slots=True)
class Written:
    """A committed request. `created_ms`: when its rows were written. `replayed`: by an earlier request."""

    request: StoreRequest
    outcome: Outcome
    created_ms: int
    replayed: bool = False


def read_once(request: Request, caller: Caller, body: bytes, *beside: str | None) -> Once | None:
    """The Idempotency-Key of a request. `beside`: what else says what is stored; it is another request when that is
    another. Raises InvalidField."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not _KEY(key):
        raise InvalidField("must be 1 to 255 visible ASCII characters", field="Idempotency-Key")
    scope = "\0".join((caller.tenant_id, key, request.method, request.url.path))
    digest = hashlib.sha256(body)
    if any(beside):
        digest.update(repr(beside).encode("utf-8", "surrogatepass"))
    return Once(hashlib.sha256(scope.encode()).digest(), digest.digest())


async def write(ctx: Context, caller: Caller, read: Read, *, door: str, once: Once | None = None) -> Written:
    """Store what `read` makes of a body, and wait for the commit."""
    if once is None:
        return await _write(ctx, caller, read, door=door)
    claim = keys.once(once.scope)
    while True:
        if (settled := await ctx.ledger.once(once.scope)) is not None:
            if settled.body != once.body:
                raise IdempotencyMismatch
            request = _request(ctx, caller, read, door=door, base=settled.id_base, numbered=False)
            outcome = Outcome(settled.accepted, settled.duplicates, settled.conflicts)
            return Written(request, outcome, settled.created_ms, replayed=True)
        if not await ctx.queue.claim(claim, int(ctx.settings.ack_timeout_s * 2_000)):
            raise InFlight
        ended = True
        try:
            return await _write(ctx, caller, read, door=door, once=once)
        except _Repeated:
            continue
        except Unavailable:
            ended = False  # it may still be stored: the claim stands until it expires
            raise
        finally:
            if ended:
                await ctx.queue.disclaim(claim)


class _Repeated(Exception):
    """Another request with this key was committed meanwhile."""


async def _write(ctx: Context, caller: Caller, read: Read, *, door: str, once: Once | None = None) -> Written:
    started = monotonic_s()
    base = id_base(ctx.clock(), ctx.random(ID_BASE_RANDOM_BYTES))
    request = _request(ctx, caller, read, door=door, base=base, once=once)
    if not request.entries:
        return Written(request, Outcome(), ctx.clock())
    ctx.access.take(caller, len(request.entries))
    pending = ctx.submitter.submit(request, ctx.settings.ack_timeout_s)
    _count(ctx, request)
    ctx.metrics.tally.received += len(request.entries)
    outcome = await asyncio.shield(pending.outcome)
    if outcome is None:
        raise Unavailable(
            "no commit in time; repeat with the same id or Idempotency-Key", retry_after_s=RETRY_AFTER_S
        )
    if outcome.refused == REPEATED:
        raise _Repeated
    if outcome.refused:
        raise REFUSALS.get(outcome.refused, TraceHubError)(retry_after_s=RETRY_AFTER_S)
    elapsed = monotonic_s() - started
    ctx.board.on_ack(elapsed)
    ctx.metrics.tally.on_ack(elapsed)
    return Written(request, outcome, outcome.created_ms or await _created_ms(ctx, request))


def _count(ctx: Context, request: StoreRequest) -> None:
    """By the tenant and the service that each entry has of its own."""
    counts = Counter((e.own.tenant_id, e.own.service) for e in request.entries if e.own is not None)
    for (tenant_id, service), entries in counts.items():
        ctx.board.on_received(tenant_id, service, entries)


def _request(
    ctx: Context,
    caller: Caller,
    read: Read,
    *,
    door: str,
    base: bytes,
    once: Once | None = None,
    numbered: bool = True,
) -> StoreRequest:
    entries = read(ms_of(base), base)
    first = ctx.numbering.take(door, len(entries)) if numbered else 1
    place(entries, first, caller.tenant_id, caller.writes_as)
    ranges = ((first, first + len(entries) - 1),) if entries else ()
    stream = ctx.numbering.stream(door)
    return StoreRequest(stream, door, "", "", base, ranges, entries, once=once)


async def _created_ms(ctx: Context, request: StoreRequest) -> int:
    """When the rows of a request were written whose receipt was not heard."""
    own = request.entries[0].own
    assert own is not None
    return await ctx.search.created_ms(own.tenant_id, id_of(request, 0)) or ctx.clock()
