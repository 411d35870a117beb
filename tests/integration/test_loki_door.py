"""POST /loki/api/v1/push: 204, and refusals in one line of text."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from typing import Any

import cramjam
import httpx
import pytest

from tests.integration.conftest import Deployment
from tests.unit.test_loki import PUSH, varint
from tracehub.protocol.loki import INFLATED_BYTES_MAX

PATH = "/loki/api/v1/push"
PROTOBUF, JSON = "application/x-protobuf", "application/json"


def document(labels: dict[str, str], *lines: str) -> bytes:
    begin = time.time_ns()
    values = [[str(begin + n), line] for n, line in enumerate(lines)]
    return json.dumps({"streams": [{"stream": labels, "values": values}]}).encode()


async def post(client: httpx.AsyncClient, body: bytes, kind: str = JSON, **headers: str) -> httpx.Response:
    given = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await client.post(PATH, content=body, headers=given)


async def entries(client: httpx.AsyncClient, service: str) -> list[dict[str, Any]]:
    query = {"service": service, "order": "asc", "page_size": 1000}
    found: list[dict[str, Any]] = (await client.get("/api/v1/logs", params=query)).json()["data"]["entries"]
    return found


def assert_refused(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.endswith("\n")
    assert len(answer.text.splitlines()) == 1
    assert ("retry-after" in answer.headers) == (status in (429, 503))


async def test_json(client: httpx.AsyncClient, service: str) -> None:
    answer = await post(client, document({"app": service}, "one", "two\nlines"))
    assert (answer.status_code, answer.content) == (204, b"")
    squeezed = gzip.compress(document({"app": service}, "three"))
    assert (await post(client, squeezed, Content_Encoding="gzip")).status_code == 204
    found = await entries(client, service)
    assert [shown["message"] for shown in found] == ["one", "two\nlines", "three"]
    assert {shown["door"] for shown in found} == {"loki"}


async def test_the_organisation_is_the_tenant(client: httpx.AsyncClient, service: str) -> None:
    for headers in ({"X_Scope_OrgID": "team-a"}, {"X_Scope_OrgID": "team-b", "X_Tenant_ID": "team-a"}):
        assert (await post(client, document({"app": service}, "x"), **headers)).status_code == 204
    assert await entries(client, service) == []
    found = await client.get("/api/v1/logs", params={"service": service}, headers={"X-Tenant-ID": "team-a"})
    assert found.json()["data"]["total_count"] == 2


@pytest.mark.parametrize("headers", [{}, {"Content_Encoding": "snappy"}])
async def test_protobuf(client: httpx.AsyncClient, service: str, headers: dict[str, str]) -> None:
    """A block of snappy, whether it is called an encoding or not."""
    made = PUSH()
    stream = made.streams.add(labels=f'{{service_name="{service}", level="warn"}}'.encode())
    entry = stream.entries.add(line=b"\xff is no text")
    entry.timestamp.seconds = int(time.time())
    entry.structuredMetadata.add(name=b"trace_id", value=b"t-1")
    body = bytes(cramjam.snappy.compress_raw(made.SerializeToString()))
    assert (await post(client, body, PROTOBUF, **headers)).status_code == 204
    (shown,) = await entries(client, service)
    assert (shown["message"], shown["level"], shown["trace_id"]) == ("\ufffd is no text", "WARN", "t-1")
    assert shown["metadata"] == {"trace_id": "t-1", "labels": {"service_name": service, "level": "warn"}}


async def test_no_streams(client: httpx.AsyncClient) -> None:
    for body, kind in ((b'{"streams":[]}', JSON), (b"\0", PROTOBUF)):
        assert (await post(client, body, kind)).status_code == 204


async def test_refusals(client: httpx.AsyncClient, service: str) -> None:
    labels = {"app": service}
    assert_refused(await post(client, b"{"), 400)
    assert_refused(await post(client, b"\xff", PROTOBUF), 400)
    assert_refused(await post(client, b"", "text/plain"), 415)
    assert_refused(await post(client, b"{}", Content_Encoding="snappy"), 415)
    assert_refused(await post(client, document(labels, *["m"] * 10_001)), 413)
    assert_refused(await post(client, varint(2**32 - 1) + b"\0", PROTOBUF), 413)
    bomb = gzip.compress(b" " * (INFLATED_BYTES_MAX + 1))
    assert_refused(await post(client, bomb, Content_Encoding="gzip"), 413)
    assert_refused(await client.get(PATH), 405)
    assert_refused(await client.get("/loki/api/v1/labels"), 404)
    assert await entries(client, service) == []


async def test_ten_thousand_lines(client: httpx.AsyncClient, service: str) -> None:
    assert (await post(client, document({"app": service}, *["m"] * 10_000))).status_code == 204
    found = (await client.get("/api/v1/logs", params={"service": service})).json()["data"]
    assert found["total_count"] == 10_000


async def test_no_store_is_503(deploy: Callable[..., Deployment], service: str) -> None:
    """Nobody works: no commit in time, come again."""
    backend = deploy(ack_timeout_s=1).backend()
    async with httpx.AsyncClient(base_url=backend.url, trust_env=False, timeout=20) as client:
        assert_refused(await post(client, document({"app": service}, "m")), 503)
