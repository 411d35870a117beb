"""Spans of traced requests, taken by a receiver as a collector is one; and collectors that are of no use."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.conftest import Databases
from tests.eventually import eventually
from tests.integration.asking import batch
from tests.integration.conftest import Deployer, Deployment, Part
from tests.integration.receivers import Receiver, receiving
from tracehub.runtime.clock import now_ms
from tracehub.runtime.embedded.ports import free_port

CALLER = "00f067aa0ba902b7"
ALL = ["receive", "enqueue", "commit", "reply"]
ATTEMPT_S = 3  # longer than what is left for spans at the end
STOP_S = 5.0  # with that in it
QUICK_S = 2.5  # no request waits for an attempt
LOKI = {"streams": [{"stream": {"app": "traced"}, "values": [[str(1_731_868_800_000_000_000), "line"]]}]}
OTLP = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "x"}}]}]}]}
DOORS: list[tuple[str, Any]] = [
    ("/ingest", batch("traced", 1, 3)),
    ("/api/v1/logs", {"service_name": "traced", "message": "m"}),
    ("/api/v1/logs/batch", {"entries": [{"service_name": "traced", "message": "m"}]}),
    ("/api/logs", {"app_key": "traced", "app_id": "x", "message": "m"}),
    ("/v1/logs", OTLP),
    ("/loki/api/v1/push", LOKI),
]


@pytest.fixture(scope="module")
def collector_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def deployment(
    databases: Databases,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
    collector_port: int,
) -> Iterator[Deployment]:
    """A backend and a worker; where spans go to there is a receiver while a test has one."""
    deployer = Deployer(databases, migrated_template, tmp_path_factory.mktemp("traced"))
    with deployer.stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector_port}")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        made = deployer.make()
        made.both()
        yield made


@pytest.fixture
async def collector(deployment: Deployment, collector_port: int) -> AsyncIterator[Receiver]:
    async with receiving(port=collector_port) as receiver:
        yield receiver


@pytest.fixture
async def asking(deployment: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=deployment.url, trust_env=False, timeout=20) as client:
        yield client


def parent(trace: int, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{trace:032x}-{CALLER}-{flags}"}


def taken(collector: Receiver) -> list[ExportTraceServiceRequest]:
    assert {one.path for one in collector.heard} <= {"/v1/traces"}
    return [ExportTraceServiceRequest.FromString(one.body) for one in collector.heard]


def spans_of(collector: Receiver) -> dict[int, list[Span]]:
    """What has come, by trace, in order of time."""
    found: dict[int, list[Span]] = {}
    for request in taken(collector):
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    found.setdefault(int.from_bytes(span.trace_id, "big"), []).append(span)
    return {
        trace: sorted(spans, key=lambda s: (s.start_time_unix_nano, s.end_time_unix_nano))
        for trace, spans in found.items()
    }


async def spans(collector: Receiver, trace: int) -> list[Span]:
    """Of one trace, as soon as the last one is there."""

    async def look() -> list[Span]:
        found = spans_of(collector).get(trace, [])
        assert "reply" in [span.name for span in found]
        return found

    return await eventually(look, 10)


def must_follow(found: list[Span], begun_ms: int) -> None:
    """One after the other, between `begun_ms` and now, each a child of the caller."""
    assert {span.parent_span_id.hex() for span in found} == {CALLER}
    assert len({span.span_id for span in found}) == len(found)
    for before, after in pairwise(found):
        assert before.end_time_unix_nano == after.start_time_unix_nano
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in found)
    assert begun_ms * 1_000_000 <= found[0].start_time_unix_nano
    assert found[-1].end_time_unix_nano <= (now_ms() + 1) * 1_000_000


def attributes(span: Span) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


@pytest.mark.parametrize(("path", "body"), DOORS)
async def test_a_write_has_four_spans(
    collector: Receiver, asking: httpx.AsyncClient, path: str, body: Any
) -> None:
    trace, begun_ms = 0xA0 + [door for door, _ in DOORS].index(path), now_ms()
    answer = await asking.post(path, json=body, headers=parent(trace))
    assert answer.is_success
    found = await spans(collector, trace)
    assert [span.name for span in found] == ALL
    must_follow(found, begun_ms)
    assert [span.kind for span in found] == [Span.SPAN_KIND_SERVER, *[Span.SPAN_KIND_INTERNAL] * 3]
    assert attributes(found[0]) == {"http.request.method": "POST", "url.path": path}
    assert attributes(found[-1]) == {"http.response.status_code": answer.status_code}
    assert {span.status.code for span in found} == {Status.STATUS_CODE_UNSET}


async def test_entries_do_not_inherit_the_trace(collector: Receiver, asking: httpx.AsyncClient) -> None:
    one = {"service_name": "inherit", "message": "m"}
    assert (await asking.post("/api/v1/logs", json=one, headers=parent(0xB0))).status_code == 201
    entry = (await asking.get("/api/v1/logs", params={"service": "inherit"})).json()["data"]["entries"][0]
    assert entry.get("trace_id") is None
    assert f"{0xB0:032x}" not in str(entry)


async def test_spans_say_how_far_a_request_came(collector: Receiver, asking: httpx.AsyncClient) -> None:
    refused = await asking.post("/api/v1/logs", json={"message": 5}, headers=parent(0xC1))
    assert refused.status_code == 400
    found = await spans(collector, 0xC1)
    assert [span.name for span in found] == ["receive", "reply"]
    assert attributes(found[1]) == {"http.response.status_code": 400}
    queued = await asking.post(
        "/ingest", params={"acks": "queued"}, json=batch("queued", 1), headers=parent(0xC2)
    )
    assert queued.status_code == 202
    assert [span.name for span in await spans(collector, 0xC2)][:2] == ["receive", "enqueue"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        parent(0xDEAD, "00"),
        parent(0),
        {"traceparent": "garbage"},
        {"traceparent": f"ff-{0xDEAD:032x}-{CALLER}-01"},
        {"traceparent": f"00-{0xDEAD:032x}-{'0' * 16}-01"},
        {"traceparent": "\xff" * 60, "tracestate": "a=b,,="},
    ],
)
async def test_nobody_else_has_spans(
    collector: Receiver, asking: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    """Without a parent, with one that is none, and with one that is not sampled."""
    raw = {name: text.encode("latin-1") for name, text in headers.items()}
    one = {"service_name": "traced", "message": "m"}
    assert (await asking.post("/api/v1/logs", json=one, headers=raw)).status_code == 201
    assert (await asking.get("/api/v1/logs", headers=parent(0xDEAD))).status_code == 200
    assert (await asking.post("/api/v1/logs", json=one, headers=parent(0xD1))).status_code == 201
    await spans(collector, 0xD1)
    assert spans_of(collector).keys() == {0xD1}


async def test_spans_have_our_name(
    collector: Receiver, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OTEL_SERVICE_NAME, else tracehub; what waits is sent at the end."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    for trace, name in ((0xE1, "tracehub"), (0xE2, "my-logs")):
        if name != "tracehub":
            monkeypatch.setenv("OTEL_SERVICE_NAME", name)
        part = await asyncio.to_thread(deployment.backend)
        one = {"service_name": "named", "message": "m"}
        async with httpx.AsyncClient(base_url=part.url, trust_env=False, timeout=20) as client:
            assert (await client.post("/api/v1/logs", json=one, headers=parent(trace))).status_code == 201
        assert trace not in spans_of(collector)
        await asyncio.to_thread(part.stop)
        assert [span.name for span in spans_of(collector)[trace]] == ALL
        last = taken(collector)[-1].resource_spans[0].resource.attributes
        assert {a.key: a.value.string_value for a in last}["service.name"] == name


async def used(part: Part, count: int) -> None:
    """Traced requests that are answered quickly and well."""
    async with httpx.AsyncClient(base_url=part.url, trust_env=False, timeout=QUICK_S) as client:
        for trace in range(1, count + 1):
            body = {"service_name": "useless", "message": "m"}
            assert (await client.post("/api/v1/logs", json=body, headers=parent(trace))).status_code == 201
        assert (await client.get("/health")).status_code == 200


def told(part: Part) -> list[str]:
    """The lines of the log that say something is wrong."""
    return [line for line in part.log.read_text().splitlines() if '"level":"info"' not in line]


@pytest.mark.parametrize("what", ["nobody", "silent", "ourselves", "refusing"])
async def test_a_useless_collector_does_not_hurt(
    collector: Receiver, deployment: Deployment, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Not the requests, not the log, not the end."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = free_port()
        urls = {
            "nobody": f"http://127.0.0.1:{free_port()}",
            "silent": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "ourselves": f"http://127.0.0.1:{port}",
            "refusing": collector.will("/none/v1/traces", 503).removesuffix("/v1/traces"),
        }
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", urls[what])
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(ATTEMPT_S))
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "32")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
        part = await asyncio.to_thread(deployment.backend, port=port)
        await used(part, 20)
        await eventually(lambda: told(part), 10)
        await used(part, 20)
        part.child.terminate()
        await asyncio.to_thread(part.child.wait, STOP_S)
    assert ["tracing.not_exported" in line for line in told(part)] == [True]


def test_without_an_endpoint_nothing_is_sent(deploy: Callable[..., Deployment], collector_port: int) -> None:
    """A traced request is answered as any other, by a server that says nothing of tracing."""
    part = deploy().backend()
    answer = httpx.post(part.url + "/ingest", json={}, headers=parent(1), trust_env=False)
    assert answer.status_code == 400
    part.stop()
    assert "tracing" not in part.log.read_text()
