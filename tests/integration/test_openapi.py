"""The description of the API holds: schemathesis asks every route what the document says, and the answers fit it."""

from __future__ import annotations

from collections.abc import Iterator
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
from apps.backend.described import DESCRIBED
from apps.backend.openapi import document
from tests.conftest import Databases
from tests.integration.conftest import Deployer, Deployment

# It makes streams that never end, faults, and keys that would close the server for the other tests.
LEFT_OUT = ("/api/v1/logs/stream", "/metrics/control", "/api/v1/keys", "/login", "/logout")
NESTED = "/v1/logs"  # values within values: to go through all that may be takes 12,000 requests
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)

schema = schemathesis.openapi.from_dict(document(all_routes(), "test")).exclude(
    path_regex="^(" + "|".join(LEFT_OUT) + ")"
)


@pytest.fixture(scope="module")
def server(
    databases: Databases, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """One of its own: what is asked for here includes that entries be removed."""
    deployer = Deployer(databases, migrated_template, tmp_path_factory.mktemp("server"))
    with deployer.started() as deployment:
        yield deployment


def asked(*phases: Phase) -> settings:
    return settings(
        max_examples=8,
        deadline=None,
        derandomize=True,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )


@schema.exclude(path=NESTED).parametrize()
@asked(Phase.explicit, Phase.generate)
def test_answers_are_as_described(case: Any, server: Deployment) -> None:
    case.call_and_validate(base_url=server.url, checks=CHECKS, timeout=20)


@schema.include(path=NESTED).parametrize()
@asked(Phase.generate)
def test_answers_to_nested_bodies_are_as_described(case: Any, server: Deployment) -> None:
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
    assert "<dt><code>retention_days</code></dt><dd>a whole number (1 to 3650)</dd>" in page.text
    assert "<script" not in page.text
    assert (await client.get("/docs.css")).headers["content-type"].startswith("text/css")
