"""The stream that a path and `?epoch=` name, and what of it is in flight; for doors that read one stream.

Marks are read before the ledger, never after. A service whose first batch still waits is known by its mark.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request

from apps.backend.context import Context, mended
from tracehub.protocol.errors import InvalidField, UnknownService
from tracehub.protocol.grants import Caller
from tracehub.protocol.limits import EPOCH_MAX
from tracehub.protocol.messages import Mark, StreamKey
from tracehub.protocol.ranges import EMPTY, Ranges
from tracehub.storage.ports import in_flight_by_stream


async def asked_stream(ctx: Context, request: Request, caller: Caller) -> tuple[StreamKey, Ranges]:
    """The epoch that was asked for, else the newest, and its numbers in flight.

    Raises UnknownService (also for what the caller may not know of), InvalidField, Transient.
    """
    tenant_id, service = caller.tenant_id, mended(request.path_params["service"])
    if not caller.may_touch(service) or (service.startswith("@") and not caller.is_admin):
        raise UnknownService
    text = request.query_params.get("epoch", "")
    if text and (not text.isascii() or not text.isdigit() or len(text) > 16 or int(text) > EPOCH_MAX):
        raise InvalidField("must be an integer of at least 0", field="epoch")
    marks = list((await ctx.queue.marks()).values())
    waiting = {
        marked.stream.epoch
        for mark in marks
        for marked in mark.streams
        if (marked.stream.tenant_id, marked.stream.numbering) == (tenant_id, service)
    }
    epochs = sorted(waiting.union(await ctx.ledger.epochs(tenant_id, service)))
    if not epochs or (text and int(text) not in epochs):
        raise UnknownService
    stream = StreamKey(tenant_id, service, int(text) if text else epochs[-1])
    return stream, _marked(marks, stream)


async def in_flight(ctx: Context, stream: StreamKey) -> Ranges:
    """What waits or runs of a stream."""
    return _marked((await ctx.queue.marks()).values(), stream)


def _marked(marks: Iterable[Mark], stream: StreamKey) -> Ranges:
    return in_flight_by_stream(marks, {stream: 0}).get(0, EMPTY)
