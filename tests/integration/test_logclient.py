"""The SDK's LogClient against a real server: sent twice, stored once."""

from __future__ import annotations

import asyncio

import httpx

from tests.integration.conftest import Deployment
from tracehub_sdk import LogClient
from tracehub_sdk.transport import HttpTransport
from tracehub_sdk.wire import Endpoint, Request, Response


class Forgetful:
    """Loses the first two answers, not the requests."""

    def __init__(self, url: str) -> None:
        self.inner = HttpTransport(Endpoint.parse(url))
        self.statuses: list[int] = []

    def exchange(self, request: Request, timeout_s: float) -> Response | None:
        response = self.inner.exchange(request, timeout_s)
        assert response is not None
        self.statuses.append(response.status)
        return None if len(self.statuses) <= 2 else response

    def close(self) -> None:
        self.inner.close()


async def test_lost_answers_store_nothing_twice(
    server: Deployment, client: httpx.AsyncClient, service: str
) -> None:
    transport = Forgetful(server.url)

    def run() -> None:
        logs = LogClient(server.url, service=service, transport=transport, backoff_min_s=0.01)
        for n in range(1_500):
            logs.log("error", f"line {n} €", n=n, trace_id="t-1", host="h")
        assert logs.flush(30)
        logs.close()
        assert logs.dropped == 0

    await asyncio.to_thread(run)
    assert transport.statuses == [201] * 4
    query = {"service": service, "order": "asc", "page_size": 1000}
    found = (await client.get("/api/v1/logs", params=query)).json()["data"]
    assert found["total_count"] == 1_500
    assert sorted(shown["metadata"]["n"] for shown in found["entries"]) == list(range(1_000))
    assert found["entries"][0]["message"] == "line 0 €"
    assert {(e["level"], e["trace_id"], e["host"]) for e in found["entries"]} == {("ERROR", "t-1", "h")}
