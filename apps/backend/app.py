"""The backend's composition root: parts, doors, background tasks, in the order they start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
import socketio
import structlog
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.backend import errors
from apps.backend.access import INGEST, Access
from apps.backend.body import header
from apps.backend.context import Context
from apps.backend.cors import SHARED, is_shared, preflight
from apps.backend.doors import (
    docs,
    ingest,
    log_service,
    login,
    logstream,
    loki,
    observe,
    operate,
    otlp,
    pages,
    sequence,
)
from apps.backend.faults import Faults
from apps.backend.hygiene import HYGIENE, request_id_of
from apps.backend.listeners import Fronts
from apps.backend.live.board import Board
from apps.backend.live.crashes import CrashWatch
from apps.backend.live.feed import Feed
from apps.backend.live.snapshot import Snapshots
from apps.backend.live.socketio import Live
from apps.backend.live.sockets import Sockets
from apps.backend.live.trail import Trail
from apps.backend.metrics import Metrics, Tally
from apps.backend.numbering import Numbering
from apps.backend.protocol import CROWDED
from apps.backend.quick import QUICK
from apps.backend.submission import Submitter
from apps.backend.tracing import close_spans, follow, open_spans, traced
from tracehub.pipeline.alerts import Outlook
from tracehub.protocol.addresses import is_loopback
from tracehub.protocol.errors import TraceHubError, Unavailable
from tracehub.protocol.grants import READ
from tracehub.protocol.messages import decode_live
from tracehub.runtime.clock import now_ms, random_bytes
from tracehub.runtime.lifecycle import close_stores, end
from tracehub.runtime.settings import Settings
from tracehub.storage.archive import Archives
from tracehub.storage.postgres.alerts import AlertStore
from tracehub.storage.postgres.connect import POOL_MAX, open_pool, shared
from tracehub.storage.postgres.counting import LogCounts
from tracehub.storage.postgres.keys import KeyStore
from tracehub.storage.postgres.ledger import PostgresLedger
from tracehub.storage.postgres.policies import Policies
from tracehub.storage.postgres.reading import LedgerReading
from tracehub.storage.postgres.search import LogSearch
from tracehub.storage.postgres.watch import LockWatch
from tracehub.storage.redis import keys as redis_keys
from tracehub.storage.redis.buffers import RedisBuffers
from tracehub.storage.redis.cache import AnswerCache
from tracehub.storage.redis.commits import Commits
from tracehub.storage.redis.connect import open_redis
from tracehub.storage.redis.exposure import Exposure
from tracehub.storage.redis.listening import listen
from tracehub.storage.redis.presence import Presence
from tracehub.storage.redis.queue import RedisQueue
from tracehub.storage.redis.workers import Workers

log = structlog.get_logger()

SEARCHES_MAX = 4
LOCK_WAIT_MS = 5_000  # the locks of a worker that is gone are freed sooner

OWN_ROUTES = [*ingest.ROUTES, *operate.ROUTES, *observe.ROUTES, *sequence.ROUTES, *login.ROUTES]


def all_routes() -> list[Route]:
    """Of all doors, as they are described."""
    return [*OWN_ROUTES, *log_service.routes(), *logstream.ROUTES, *otlp.ROUTES, *loki.ROUTES]


@dataclass(frozen=True, slots=True)
class Stores:
    """Connections to Postgres and to both Redises. `ears` wait for what is said, and nobody waits for them."""

    redis: Redis
    ears: Redis
    buffers: Redis
    pool: asyncpg.Pool
    search_pool: asyncpg.Pool  # slow searches wait for each other, never the ledger's questions for them

    @classmethod
    def of(cls, settings: Settings) -> Stores:
        """Nothing is connected yet."""
        most, searches = shared(settings.db_max_open_conns, POOL_MAX, SEARCHES_MAX)
        return cls(
            open_redis(settings.redis()),
            open_redis(settings.redis(), timeout_s=None),
            open_redis(settings.buffer_redis()),
            open_pool(settings.database(), "tracehub-backend", most=most, lock_wait_ms=LOCK_WAIT_MS),
            open_pool(settings.database(), "tracehub-backend-search", most=searches),
        )

    async def open(self) -> None:
        """Make the pools ready; they connect when they are used, for Postgres may come later."""
        await asyncio.gather(self.pool, self.search_pool)

    async def close(self) -> None:
        """All of them, within a few seconds."""
        await close_stores((self.pool, self.search_pool), (self.redis, self.ears, self.buffers))


def build(settings: Settings, stopping: Callable[[], bool] = lambda: False) -> ASGIApp:
    """The whole application. Call it inside the running event loop; connections open when they are needed.

    `stopping`: whether the server has begun to stop, so that what never ends by itself must end.
    """
    application = Starlette(
        routes=[*OWN_ROUTES, *docs.routes(all_routes)],
        exception_handlers=errors.INGEST.handlers(),
    )
    application.router.redirect_slashes = False  # a redirect would repeat whatever Host the client sent
    board = Board(now_ms)
    stores = Stores.of(settings)
    redis, pool = stores.redis, stores.pool
    queue = RedisQueue(redis, entries_max=settings.queue_entries_max, bytes_max=settings.queue_bytes_max)
    workers = Workers(redis)
    ledger = PostgresLedger(
        pool,
        partition=settings.partition,
        epochs_max=settings.epochs_max,
        services_max=settings.services_max,
        gap_grace_ms=settings.gap_grace_ms,
        watch=LockWatch(stores.search_pool, workers.is_alive),
    )
    reading = LedgerReading(pool)
    faults = Faults(redis, queue, reading, now_ms)
    snapshots = Snapshots(
        workers=workers, queue=queue, ledger=ledger, reading=reading, board=board, faults=faults, clock=now_ms
    )
    backend_id = secrets.token_hex(6)
    spans = open_spans(settings)
    submitter = Submitter(
        queue, ledger, backend_id=backend_id, clock=now_ms, random=random_bytes,
        receipt_wait_s=settings.receipt_wait_ms / 1000, watch=follow if spans else None,
    )  # fmt: skip
    key_store = KeyStore(pool)
    access = Access(
        key_store, queue, settings.given_keys(), now_ms,
        may_be_open=settings.insecure or is_loopback(settings.host),
    )  # fmt: skip
    live = Live(access, board, snapshots, now_ms, live_max=settings.live_entries_per_second_max)
    crashes = CrashWatch(workers, queue, now_ms)
    metrics = Metrics()
    trail = Trail(board, queue, now_ms)
    search = LogSearch(stores.search_pool)
    sockets = Sockets(Presence(redis, backend_id), now_ms, settings.live_entries_per_second_max)
    # Those who follow read by the belt, which is quick: they need not wait for searches.
    feed = Feed(Commits(stores.ears), Commits(redis), LogSearch(pool))
    alerts = AlertStore(pool, search.fetch)
    outlook = Outlook(alerts, reading, queue.marks, settings.public_url)
    ctx = application.state.context = Context(
        settings, access, key_store, redis, queue, RedisBuffers(stores.buffers), ledger, reading, search,
        LogCounts(search.fetch), AnswerCache(redis), alerts, outlook, feed, sockets, stopping, submitter,
        Numbering(now_ms(), random_bytes(2)), faults, board, snapshots, trail, metrics, now_ms, random_bytes,
        Policies(pool), Archives(*settings.archives()),
    )  # fmt: skip

    async def hear(message: bytes) -> None:
        heard = decode_live(message)
        crashes.heard(heard)
        trail.heard(heard)
        sockets.heard(heard)
        await live.heard(heard)
        await faults.heard(heard)
        if await access.heard(heard):
            await live.recheck()

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        await stores.open()
        with contextlib.suppress(TraceHubError):
            await access.refresh()
        handlers = {
            redis_keys.receipts(backend_id): submitter.heard,
            redis_keys.FLUSHED_CHANNEL: submitter.flushed,
            redis_keys.LIVE_CHANNEL: hear,
        }
        running = (submitter, live, faults, crashes, trail, access, feed, sockets)
        background = [
            asyncio.create_task(listen(stores.ears, handlers, submitter.reconnected)),
            *(asyncio.create_task(part.run()) for part in running),
            *([] if is_loopback(settings.host) else [asyncio.create_task(Exposure(redis).keep_saying())]),
        ]
        log.info("backend.started", host=settings.host, **settings.listeners(), faults=settings.faults)
        yield {} if spans else {QUICK: ingest.QuickIngest(ctx)}
        await end(background)
        await stores.close()
        await close_spans(spans)
        log.info("backend.stopped")

    application.router.lifespan_context = lifespan
    return traced(
        with_hygiene(
            by_path(application, below(ctx, live), logstream.application(ctx), Fronts(settings)),
            metrics.tally,
        ),
        spans,
    )


def below(ctx: Context, live: Live) -> dict[str, ASGIApp]:
    """The applications that have a path to themselves."""
    return {
        "/socket.io/": socketio.ASGIApp(live.server),
        log_service.BELOW: log_service.application(ctx),
        otlp.PATH: otlp.door(ctx),
        loki.BELOW: loki.door(ctx),
    }


def by_path(
    application: Starlette, others: Mapping[str, ASGIApp], logstream_app: ASGIApp, fronts: Fronts
) -> ASGIApp:
    """Several applications behind one port: `others` by what their paths begin with; or, without a slash at the end,
    by what they are."""
    fast = straight(ingest.ingest, application)
    web = pages.Pages(may_see=lambda scope: may_see(application.state.context.access, scope))

    def is_nowhere(scope: Scope) -> bool:
        return all(route.matches(scope)[0] is Match.NONE for route in application.routes)

    def other_at(path: str) -> ASGIApp | None:
        for begin, inner in others.items():
            if path == begin or (begin[-1] == "/" and path.startswith(begin)):
                return inner
        return None

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path == "/ingest" and scope["type"] == "http" and scope["method"] == "POST":
            await fast(scope, receive, send)
            return
        path = fronts.lead(scope)
        if (other := other_at(path)) is not None:
            inner: ASGIApp = other
        elif logstream.is_below(path):
            inner = logstream_app
        elif web.wants(scope) or (pages.is_visit(scope) and is_nowhere(scope)):
            inner = web
        else:
            inner = application
        await inner(scope, receive, send)

    return choose


def may_see(access: Access, scope: Scope) -> bool:
    """Whether a page is shown. While it is not known who may read, it is: there is nothing in it but itself."""
    try:
        access.require(Request(scope), READ, door=INGEST)
    except Unavailable:
        return True
    except TraceHubError:
        return False
    return True


def straight(view: Callable[[Request], Awaitable[Response]], application: Starlette) -> ASGIApp:
    """A view without Starlette's routing and layers, which cost as much as reading a small batch."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"], scope["endpoint"] = application, view
        response = await errors.INGEST.guarded(view(Request(scope, receive)))
        await response(scope, receive, send)

    return run


def with_hygiene(inner: ASGIApp, tally: Tally) -> ASGIApp:
    """Headers that every answer has, the request id (echoed when it is printable, else made), and a count."""

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await inner(scope, receive, send)
            return
        request_id = request_id_of(header(scope, b"x-request-id").encode("latin-1"))
        shared = SHARED if is_shared(scope["path"]) else ()

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("endpoint"), "__name__", "none")
                tally.answers[route, message["status"]] += 1
                given = message.get("headers", ())
                message["headers"] = [*given, *HYGIENE, *shared, (b"x-request-id", request_id)]
            await send(message)

        if CROWDED in scope:
            refusal = Unavailable("too many connections; try again later", retry_after_s=1)
            response = errors.INGEST.answer(refusal)
            response.headers["connection"] = "close"
            await response(scope, receive, tell)
            return
        has_words = scope["path"].startswith("/socket.io/") or logstream.is_below(scope["path"])
        if scope["method"] == "OPTIONS" and not has_words:
            await preflight(scope["path"])(scope, receive, tell)
            return
        with contextlib.suppress(Exception):  # on_unexpected has answered and logged it
            await inner(scope, receive, tell)

    return outer
