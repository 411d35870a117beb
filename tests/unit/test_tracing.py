"""The moments of a traced request; that nothing is there without an endpoint; that trouble is told once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from apps.backend import tracing
from apps.backend.spans import _Telling
from apps.backend.submission import Pending
from apps.backend.tracing import Moments, follow, open_spans, traced
from tracehub.protocol.errors import Unavailable
from tracehub.protocol.messages import Outcome, Request, StreamKey
from tracehub.runtime.settings import Settings

OFF = """
import asyncio, sys
from apps.backend.app import build
from tracehub.runtime.settings import Settings
async def run(): build(Settings())
asyncio.run(run())
print({'opentelemetry.sdk', 'opentelemetry.trace', 'opentelemetry.exporter'} & set(sys.modules))
"""


def pending() -> Pending:
    """A request that was handed in."""
    loop = asyncio.get_running_loop()
    request = Request(StreamKey("", "", 0), "", "", "", b"", (), [])
    return Pending(request, b"", 0.0, 0.0, loop.create_future(), loop.create_future())


async def watched(made: Pending) -> Moments:
    moments = Moments(1.0)
    tracing._current.set(moments)
    follow(made)
    return moments


def test_without_an_endpoint_nothing_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", OFF], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


async def test_without_an_endpoint_the_application_is_itself() -> None:
    async def inner(_: Scope, __: Receive, ___: Send) -> None:
        """Nothing."""

    assert open_spans(Settings()) is None
    assert traced(inner, None) is inner


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, with what to install; the server runs."""
    monkeypatch.delitem(sys.modules, "apps.backend.spans")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with capture_logs() as lines:
        assert open_spans(Settings(otel_exporter_otlp_endpoint="http://127.0.0.1:1")) is None
    assert [(line["log_level"], line["event"]) for line in lines] == [("warning", "tracing.off")]
    assert "pip install 'tracehub[tracing]'" in lines[0]["reason"]


def test_a_bad_variable_of_the_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    with capture_logs() as lines:
        assert open_spans(Settings(otel_exporter_otlp_endpoint="http://127.0.0.1:1")) is None
    assert "max_export_batch_size" in lines[0]["reason"]


@pytest.mark.parametrize(
    ("moments", "ends"),
    [
        (Moments(1), [("receive", 9), ("reply", 9)]),
        (Moments(1, answered_s=5), [("receive", 5), ("reply", 9)]),
        (Moments(1, 2, 3, 4, 5), [("receive", 2), ("enqueue", 3), ("commit", 4), ("reply", 9)]),
        (Moments(1, 2, 3, 0, 5), [("receive", 2), ("enqueue", 3), ("reply", 9)]),
        (Moments(1, 2, 4, 3, 5), [("receive", 2), ("enqueue", 3), ("commit", 3), ("reply", 9)]),
        (Moments(1, 2), [("receive", 2), ("enqueue", 9), ("reply", 9)]),
    ],
)
def test_spans_end_one_after_the_other(moments: Moments, ends: list[tuple[str, float]]) -> None:
    assert moments.ends(9) == ends


async def test_what_ends_badly_is_marked() -> None:
    """The queue that does not take it; a commit that is lost, late or refused; and nothing else."""
    for make, failed in (
        (lambda p: (p.queued.set_exception(Unavailable()), p.outcome.set_exception(Unavailable())), {"enqueue"}),
        (lambda p: (p.queued.set_result(None), p.outcome.set_exception(Unavailable())), {"commit"}),
        (lambda p: (p.queued.set_result(None), p.outcome.set_result(None)), {"commit"}),
        (lambda p: (p.queued.set_result(None), p.outcome.set_result(Outcome(refused="x"))), {"commit"}),
        (lambda p: (p.queued.set_result(None), p.outcome.cancel()), {"commit"}),
        (lambda p: (p.queued.set_result(None), p.outcome.set_result(Outcome())), set()),
    ):  # fmt: skip
        one = pending()
        moments = await watched(one)
        make(one)
        await asyncio.wait({one.queued, one.outcome})
        assert moments.failed == failed
        assert ("commit" in dict(moments.ends(1e12))) == (failed != {"enqueue"})


async def test_a_request_without_a_trace_is_not_followed() -> None:
    one = pending()
    follow(one)
    one.queued.set_result(None)
    assert not one.queued._callbacks  # type: ignore[attr-defined]


class Moody(SpanExporter):
    def __init__(self, *results: bool) -> None:
        self.results = list(results)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS if self.results.pop(0) else SpanExportResult.FAILURE


def test_trouble_is_told_once_and_its_end_once() -> None:
    results = (True, False, False, False, True, True, False)
    telling = _Telling(Moody(*results), "http://c/v1/traces")
    with capture_logs() as lines:
        for _ in results:
            telling.export(())
    assert [line["event"] for line in lines] == [
        "tracing.not_exported", "tracing.exported_again", "tracing.not_exported",
    ]  # fmt: skip


async def test_messages_go_through_as_they_are() -> None:
    """Also where spans are made."""
    seen: list[Message] = []

    class Spans:
        emitted = 0

        def parent(self, _: Scope) -> str:
            return "parent"

        def emit(self, *_: object, **__: object) -> None:
            self.emitted += 1

    async def inner(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async def send(message: Message) -> None:
        seen.append(message)

    async def receive() -> Message:
        raise AssertionError

    spans = Spans()
    outer = traced(inner, spans)  # type: ignore[arg-type]
    for method in ("POST", "GET"):
        await outer({"type": "http", "method": method, "path": "/"}, receive, send)
    assert [message["type"] for message in seen] == ["http.response.start", "http.response.body"] * 2
    assert spans.emitted == 1
