"""When a traced request reaches what, for spans of our own (log-service.md §9); spans.py makes and sends them.

Guarantee: without OTEL_EXPORTER_OTLP_ENDPOINT nothing of this runs and OpenTelemetry is not imported. With it, a POST
whose `traceparent` is sampled gets up to four spans, each a child of the caller's, one after the other: `receive`
(until it is validated and handed in for the queue; when it is refused before, until its answer begins), `enqueue`
(until it is in the queue), `commit` (until its commit is told), `reply` (until the answer is sent). Whoever does not
wait for the commit has no `commit`. Not here: requests without `traceparent`, and workers. Entries do not inherit it.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.backend.submission import Pending
from tracehub.runtime.clock import monotonic_s, now_ns
from tracehub.runtime.settings import Settings

if TYPE_CHECKING:
    from apps.backend.spans import Spans

log = structlog.get_logger()

RECEIVE, ENQUEUE, COMMIT, REPLY = "receive", "enqueue", "commit", "reply"
MISSING: Final = "OpenTelemetry is not installed, so no spans are made: pip install 'tracehub[tracing]'"


@dataclass(slots=True)
class Moments:
    """Monotonic seconds; 0: not reached. `failed`: the spans that ended badly."""

    begun_s: float
    submitted_s: float = 0.0
    queued_s: float = 0.0
    told_s: float = 0.0
    answered_s: float = 0.0
    status: int = 0
    failed: frozenset[str] = frozenset()

    def ends(self, sent_s: float) -> list[tuple[str, float]]:
        """The spans of a request whose answer was sent at `sent_s`, with their ends; each begins at the last's end."""
        if not self.submitted_s:
            return [(RECEIVE, self.answered_s or sent_s), (REPLY, sent_s)]
        # A receipt may be heard before the queue's own answer.
        queued_s = min(self.queued_s or sent_s, self.told_s or sent_s)
        commit = [(COMMIT, self.told_s)] if self.told_s else []
        return [(RECEIVE, self.submitted_s), (ENQUEUE, queued_s), *commit, (REPLY, sent_s)]


_current: ContextVar[Moments | None] = ContextVar("moments", default=None)


def follow(pending: Pending) -> None:
    """Note when the request that is handed in just now is queued, and when its commit is told."""
    moments = _current.get()
    if moments is None:
        return
    moments.submitted_s = monotonic_s()

    def queued(future: asyncio.Future[Any]) -> None:
        moments.queued_s = monotonic_s()
        if _is_bad(future):
            moments.failed |= {ENQUEUE}

    def told(future: asyncio.Future[Any]) -> None:
        if ENQUEUE in moments.failed:
            return
        moments.told_s = monotonic_s()
        if _is_bad(future) or future.result() is None or future.result().refused:
            moments.failed |= {COMMIT}

    pending.queued.add_done_callback(queued)
    pending.outcome.add_done_callback(told)


def _is_bad(future: asyncio.Future[Any]) -> bool:
    return future.cancelled() or future.exception() is not None


def open_spans(settings: Settings) -> Spans | None:
    """Where spans go to; None when they go nowhere, also because of a bad `OTEL_…` variable: logs are taken anyway."""
    if not settings.otel_exporter_otlp_endpoint:
        return None
    try:
        from apps.backend.spans import Spans

        return Spans(settings.otel_exporter_otlp_endpoint, settings.otel_service_name)
    except ImportError:
        reason = MISSING
    except ValueError as error:
        reason = str(error)
    log.warning("tracing.off", reason=reason)
    return None


async def close_spans(spans: Spans | None) -> None:
    """Let what waits be sent, for a few seconds at most."""
    if spans is not None:
        await asyncio.to_thread(spans.close)


def traced(inner: ASGIApp, spans: Spans | None) -> ASGIApp:
    """The application with spans for those who ask for them; itself when these would go nowhere."""
    if spans is None:
        return inner

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        parent = spans.parent(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
        if parent is None:
            await inner(scope, receive, send)
            return
        begun_ns, path = now_ns(), scope["path"]
        moments = Moments(monotonic_s())

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                moments.answered_s, moments.status = monotonic_s(), message["status"]
            await send(message)

        _current.set(moments)  # in the task of this request alone
        await inner(scope, receive, tell)
        spans.emit(parent, moments, begun_ns=begun_ns, sent_s=monotonic_s(), path=path)

    return outer
