"""POST /v1/logs: its answers and its refusals, each in the encoding of the request."""

from __future__ import annotations

import gzip
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import zstandard
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from apps.backend.doors.otlp import BODY_BYTES_MAX
from tests.integration.conftest import Deployment

PROTOBUF, JSON = "application/x-protobuf", "application/json"


def request(service: str, *messages: str) -> ExportLogsServiceRequest:
    made = ExportLogsServiceRequest()
    logs = made.resource_logs.add()
    logs.resource.attributes.add(key="service.name").value.string_value = service
    scope = logs.scope_logs.add()
    for message in messages:
        scope.log_records.add(time_unix_nano=time.time_ns()).body.string_value = message
    return made


def document(service: str, *records: dict[str, Any]) -> dict[str, Any]:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": list(records)}]}]}


async def post(
    client: httpx.AsyncClient, body: bytes, kind: str = PROTOBUF, **headers: str
) -> httpx.Response:
    given = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await client.post("/v1/logs", content=body, headers=given)


async def messages(client: httpx.AsyncClient, service: str) -> list[str]:
    query = {"service": service, "order": "asc", "page_size": 1000}
    found = (await client.get("/api/v1/logs", params=query)).json()["data"]["entries"]
    return [shown["message"] for shown in found]


def status_of(answer: httpx.Response) -> tuple[int, str]:
    """Code and message, in whichever encoding."""
    if answer.headers["content-type"] == PROTOBUF:
        told = Status.FromString(answer.content)
        return told.code, told.message
    assert answer.headers["content-type"] == JSON
    document = answer.json()
    assert set(document) == {"code", "message"}
    return document["code"], document["message"]


@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd"])
async def test_all_is_well(client: httpx.AsyncClient, service: str, encoding: str) -> None:
    squeeze: dict[str, Callable[[bytes], bytes]] = {
        "identity": bytes, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress
    }  # fmt: skip
    body = squeeze[encoding](request(service, "one", "two").SerializeToString())
    answer = await post(client, body, Content_Encoding=encoding)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"", PROTOBUF)
    record = {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": "three"}}
    text = squeeze[encoding](json.dumps(document(service, record)).encode())
    answer = await post(client, text, "application/json; charset=utf-8", Content_Encoding=encoding)
    assert (answer.status_code, answer.json(), answer.headers["content-type"]) == (200, {}, JSON)
    assert await messages(client, service) == ["one", "two", "three"]


async def test_nothing_to_store_is_well(client: httpx.AsyncClient) -> None:
    for body, kind in ((b"", PROTOBUF), (b"{}", JSON)):
        assert (await post(client, body, kind)).status_code == 200


async def test_partial_success(client: httpx.AsyncClient, service: str) -> None:
    """One record is too large, the other is stored."""
    made = request(service, "large", "small")
    large = made.resource_logs[0].scope_logs[0].log_records[0]
    large.attributes.add(key="a").value.string_value = "x" * 1024 * 1024
    answer = await post(client, gzip.compress(made.SerializeToString()), Content_Encoding="gzip")
    partial = ExportLogsServiceResponse.FromString(answer.content).partial_success
    assert (answer.status_code, partial.rejected_log_records) == (200, 1)
    assert "1048576" in partial.error_message
    assert await messages(client, service) == ["small"]


async def test_ten_thousand_records(client: httpx.AsyncClient, service: str) -> None:
    answer = await post(client, request(service, *map(str, range(10_000))).SerializeToString())
    assert answer.status_code == 200, answer.text
    found = (await client.get("/api/v1/logs", params={"service": service})).json()["data"]
    assert found["total_count"] == 10_000


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
async def test_refusals(client: httpx.AsyncClient, service: str, kind: str) -> None:
    damaged = await post(client, b"\xff{", kind)
    assert (damaged.status_code, status_of(damaged)[0]) == (400, 3)
    many = request(service, *map(str, range(10_001))).SerializeToString()
    if kind == JSON:
        many = json.dumps(document(service, *[{}] * 10_001)).encode()
    refused = await post(client, many, kind)
    assert (refused.status_code, status_of(refused)[0]) == (413, 3)
    bomb = gzip.compress(b"\0" * (BODY_BYTES_MAX + 1))
    refused = await post(client, bomb, kind, Content_Encoding="gzip")
    assert (refused.status_code, status_of(refused)[0]) == (413, 3)
    refused = await post(client, b"", kind, Content_Encoding="br")
    assert (refused.status_code, status_of(refused)[0]) == (415, 3)
    assert "Retry-After" not in refused.headers
    assert await messages(client, service) == []


async def test_other_types_and_methods(client: httpx.AsyncClient) -> None:
    refused = await post(client, b"", "text/plain")
    assert (refused.status_code, status_of(refused)[0]) == (415, 3)
    wrong = await client.get("/v1/logs")
    assert (wrong.status_code, wrong.headers["allow"], status_of(wrong)[0]) == (405, "POST", 12)


async def test_a_key_means_once(client: httpx.AsyncClient, service: str) -> None:
    """Idempotency-Key, as on every door that writes."""
    key = uuid.uuid4().hex
    body = request(service, "once").SerializeToString()
    first, again = [await post(client, body, Idempotency_Key=key) for _ in range(2)]
    assert [first.status_code, again.status_code] == [200, 200]
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    other = await post(client, request(service, "other").SerializeToString(), Idempotency_Key=key)
    assert (other.status_code, status_of(other)[0]) == (422, 3)
    assert await messages(client, service) == ["once"]


async def test_no_store_is_503(deploy: Callable[..., Deployment], service: str) -> None:
    """Nobody works: no commit in time, come again."""
    deployment = deploy(ack_timeout_s=1)
    backend = deployment.backend()
    async with httpx.AsyncClient(base_url=backend.url, trust_env=False, timeout=20) as client:
        for kind, body in ((PROTOBUF, request(service, "m").SerializeToString()), (JSON, b"")):
            given = body or json.dumps(document(service, {})).encode()
            refused = await post(client, given, kind)
            assert (refused.status_code, status_of(refused)[0]) == (503, 14)
            assert int(refused.headers["retry-after"]) >= 1
