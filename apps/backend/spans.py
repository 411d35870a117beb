"""Spans by OpenTelemetry's own library, sent in a thread of their own (tracing.py says which). Imported only where
an endpoint is set.

Limits: 2,048 spans wait to be sent, what is more is dropped; one attempt takes 10 s with its repetitions; at the end
they have FLUSH_S. The library's usual variables (OTEL_BSP_…, OTEL_EXPORTER_OTLP_HEADERS and so on) change the first.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from apps.backend.body import header
from apps.backend.tracing import RECEIVE, REPLY, Moments

log = structlog.get_logger()

FLUSH_S: Final = 2.0
PATH: Final = "/v1/traces"
_NAMES: Final = ("traceparent", "tracestate")
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class _Telling(SpanExporter):
    """Says once that spans do not arrive, and once that they do again: the library would say it every few seconds."""

    def __init__(self, inner: SpanExporter, endpoint: str) -> None:
        self._inner = inner
        self._endpoint = endpoint
        self._is_well = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        is_well = result is SpanExportResult.SUCCESS
        if self._is_well and not is_well:
            log.warning("tracing.not_exported", endpoint=self._endpoint)
        elif is_well and not self._is_well:
            log.info("tracing.exported_again", endpoint=self._endpoint)
        self._is_well = is_well
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


class Spans:
    """One per backend."""

    def __init__(self, endpoint: str, service_name: str) -> None:
        """`endpoint`: an address without the path of traces."""
        address = endpoint.rstrip("/") + PATH
        self._provider = TracerProvider(
            resource=Resource.create({SERVICE_NAME: service_name}), shutdown_on_exit=False
        )
        exporter = _Telling(OTLPSpanExporter(address), address)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("tracehub")

    @staticmethod
    def parent(scope: Scope) -> Context | None:
        """The caller's span; None without a readable `traceparent`, and when it is not sampled."""
        given = {name: text for name in _NAMES if (text := header(scope, name.encode()))}
        if _NAMES[0] not in given:
            return None
        found = _PROPAGATOR.extract(given)
        caller = get_current_span(found).get_span_context()
        return found if caller.is_valid and caller.trace_flags.sampled else None

    def emit(self, parent: Context, moments: Moments, *, begun_ns: int, sent_s: float, path: str) -> None:
        """Hand the spans of a request over to be sent. `begun_ns`: its first moment as Unix time."""
        start_ns = begun_ns
        for name, end_s in moments.ends(sent_s):
            end_ns = begun_ns + int((end_s - moments.begun_s) * 1e9)
            kind = SpanKind.SERVER if name == RECEIVE else SpanKind.INTERNAL
            span = self._tracer.start_span(name, parent, kind, start_time=start_ns)
            if name == RECEIVE:
                span.set_attributes({"http.request.method": "POST", "url.path": path})
            elif name == REPLY:
                span.set_attribute("http.response.status_code", moments.status)
            if name in moments.failed or (name == REPLY and moments.status >= 500):
                span.set_status(Status(StatusCode.ERROR))
            span.end(end_ns)
            start_ns = end_ns

    def close(self) -> None:
        """Send what waits; who does not take it within FLUSH_S does not get it."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(FLUSH_S)
