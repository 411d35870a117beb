"""The description of the API holds: schemathesis asks every route what the document says, and the answers fit it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from apps.backend.app import all_routes
from apps.backend.openapi import DESCRIBED, document
from tests.integration.conftest import Deployment

# It makes streams that never end, faults, and keys that would close the server for the other tests.
LEFT_OUT = ("/api/v1/logs/stream", "/metrics/control", "/api/v1/keys", "/login", "/logout")
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)

schema = schemathesis.openapi.from_dict(document(all_routes(), "test")).exclude(
    path_regex="^(" + "|".join(LEFT_OUT) + ")"
)


@schema.parametrize()
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_described(case: Any, server: Deployment) -> None:
    case.call_and_validate(base_url=server.url, checks=CHECKS, timeout=20)


def test_what_is_described_is_there() -> None:
    paths = document(all_routes(), "test")["paths"]
    assert [(m, p) for m, p in DESCRIBED if m.lower() not in paths.get(p, {})] == []
    assert all(o["summary"] for methods in paths.values() for o in methods.values())


async def test_it_is_served(client: httpx.AsyncClient) -> None:
    told = await client.get("/openapi.json")
    assert (told.status_code, told.json()["openapi"]) == (200, "3.1.0")
    yaml = await client.get("/openapi.yaml")
    assert yaml.headers["content-type"] == "application/yaml; charset=utf-8"
    assert yaml.headers["cache-control"] == "no-cache"
    assert yaml.json() == told.json()


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/swagger/", "/swagger"])
async def test_it_can_be_read(client: httpx.AsyncClient, path: str) -> None:
    page = await client.get(path)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    assert "/api/v1/logs/aggregate" in page.text
    assert "script" not in page.text
    assert (await client.get("/docs.css")).headers["content-type"].startswith("text/css")
