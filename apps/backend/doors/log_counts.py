"""The log service's counts (log-service.md §3, §4): statistics, aggregates, services, storage. Below /api/v1."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Annotated, Any

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.backend.answers import answer, scoped, success
from apps.backend.body import read_body, require_json
from apps.backend.context import context, require
from tracehub.protocol.errors import InvalidField
from tracehub.protocol.fields import read_object
from tracehub.protocol.filters import LogFilter, from_json, from_query, query_body
from tracehub.protocol.grants import READ, Door
from tracehub.protocol.severity import word_of
from tracehub.protocol.shapes import NAME_CHARS_MAX
from tracehub.protocol.times import DAY_MS, iso
from tracehub.storage.postgres.counting import GROUPS, INTERVALS_MS, OTHER, Counted, level_counts

DOOR = Door("logs")
FILTER_BYTES_MAX = 256 * 1024
BUCKETS_MAX = 10_000
_KEY_PATTERN = rf"^metadata\.(.|\n){{1,{NAME_CHARS_MAX}}}$"
_GROUP = {"anyOf": [{"enum": list(GROUPS)}, {"pattern": _KEY_PATTERN, "description": "metadata.<key>"}]}
_METADATA_KEY = re.compile(_KEY_PATTERN).fullmatch
AggregateBody = query_body(
    "AggregateBody",
    group_by=Annotated[str, Meta(extra_json_schema=_GROUP)] | None,
)


async def stats(request: Request) -> Response:
    """GET /logs/stats: how many, by level and by service; of the last 24 h unless asked otherwise."""
    ctx, caller = context(request), require(request, READ, door=DOOR)
    wanted, _ = from_query(request.query_params.multi_items())
    asked = wanted
    end_ms = wanted.end_ms if wanted.end_ms is not None else ctx.clock()
    start_ms = wanted.start_ms if wanted.start_ms is not None else end_ms - DAY_MS
    wanted = scoped(replace(wanted, start_ms=start_ms, end_ms=end_ms), caller)

    async def count() -> tuple[dict[str, Any], dict[str, Any]]:
        levels, services = await ctx.counts.by_service(caller.readable_tenant, wanted)
        found = {
            "total_count": sum(levels.values()),
            "level_counts": level_counts(levels, word_of),
            "service_counts": services,
            "time_range": {"start": iso(start_ms), "end": iso(end_ms)},
        }
        return found, {}

    # A range that ends now is another one each time: what is remembered is the answer to the question.
    return await answer(
        request, caller, f"stats {asked!r}", wanted if asked.end_ms is not None else asked, count
    )


async def aggregate(request: Request) -> Response:
    """POST /logs/aggregate?interval=: counts over time, by group if asked."""
    ctx, caller = context(request), require(request, READ, door=DOOR)
    require_json(request)
    body = await read_body(request, ctx.settings.body_timeout_s, FILTER_BYTES_MAX)
    document = read_object(body) if body else {}
    wanted, _ = from_json(document, AggregateBody)
    group = _group(document.get("group_by"))
    wanted = scoped(wanted, caller)
    interval = request.query_params.get("interval", "")
    interval = interval if interval in INTERVALS_MS else "hour"
    if wanted.start_ms is not None and wanted.end_ms is not None:
        _refuse_many((wanted.end_ms - wanted.start_ms) // INTERVALS_MS[interval] + 1)

    async def count() -> tuple[list[dict[str, Any]], dict[str, Any]]:
        counted = await ctx.counts.by_time(caller.readable_tenant, wanted, interval, group)
        _refuse_many(len({c.bucket_ms for c in counted}))  # of an open range, those that are not empty
        # A large answer must not keep acknowledgements waiting.
        return await asyncio.to_thread(_buckets, counted, group), {"interval": interval}

    return await answer(request, caller, f"aggregate {interval} {group!r}", wanted, count)


def _group(given: str | None) -> str | None:
    """A column of logs, or "metadata.<key>"."""
    if not given:
        return None
    if given in GROUPS:
        return GROUPS[given]
    if _METADATA_KEY(given):
        return given
    raise InvalidField(f"must be one of {', '.join(GROUPS)} or metadata.<key>", field="group_by")


def _refuse_many(buckets: int) -> None:
    if buckets > BUCKETS_MAX:
        raise InvalidField(
            f"the answer would have more than {BUCKETS_MAX} buckets: ask for less, or for a longer interval",
            field="interval",
        )


def _buckets(counted: list[Counted], group: str | None) -> list[dict[str, Any]]:
    rows: dict[tuple[int, Any], dict[int, int]] = {}
    for c in counted:
        name = c.group
        if group == "severity" and name is not None and name != OTHER:
            name = word_of(int(name))  # several numbers have one word
        levels = rows.setdefault((c.bucket_ms, name), {})
        for severity, entries in c.severities.items():
            levels[severity] = levels.get(severity, 0) + entries
    shown = []
    for (bucket_ms, name), levels in rows.items():
        row = {
            "bucket": iso(bucket_ms),
            "count": sum(levels.values()),
            "level_counts": level_counts(levels, word_of),
        }
        shown.append({**row, "group": name} if group else row)
    return shown


async def services(request: Request) -> Response:
    """GET /logs/services: the names of all services, sorted."""
    ctx, caller = context(request), require(request, READ, door=DOOR)

    async def find() -> tuple[list[str], dict[str, Any]]:
        return await ctx.counts.services(caller.readable_tenant, caller.app_key), {}

    return await answer(request, caller, "services", LogFilter(), find)


async def storage(request: Request) -> Response:
    """GET /logs/storage: the tenant's share of the disk; to who sees one service, that of the service."""
    caller = require(request, READ, door=DOOR)
    share = await context(request).counts.storage(caller.readable_tenant, caller.app_key)
    return success(
        {
            "size_bytes": share.bytes,
            "size_mb": share.bytes / 2**20,
            "size_gb": share.bytes / 2**30,
            "row_count": share.rows,
        }
    )


ROUTES = [
    Route("/logs/stats", stats, methods=["GET"]),
    Route("/logs/aggregate", aggregate, methods=["POST"]),
    Route("/logs/services", services, methods=["GET"]),
    Route("/logs/storage", storage, methods=["GET"]),
]
