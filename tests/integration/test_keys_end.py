"""Keys that end: within 5 s for requests, sockets and logins, however they were revoked; and what logging in gives."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from tests.conftest import Databases
from tests.eventually import eventually
from tests.integration.asking import batch
from tests.integration.conftest import Deployer, Deployment
from tests.integration.keyed import ADMIN, KEYS, READ, WRITE, Watcher, bearer, made_key, speaking
from tracehub.protocol.tenants import DEFAULT_TENANT
from tracehub.storage.postgres.keys import KeyStore

END_S = 5.0
COOKIE = "tracehub_login"


@pytest.fixture(scope="module")
def closed(
    databases: Databases, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Two backends and a worker that ask for keys."""
    deployer = Deployer(databases, migrated_template, tmp_path_factory.mktemp("closed"))
    with deployer.stack:
        deployment = deployer.make(**KEYS)
        deployment.both()
        deployment.backend()
        yield deployment


@pytest.fixture
def second(closed: Deployment) -> str:
    """The address of the other backend."""
    return [part.url for part in closed.parts if part.url][1]


@asynccontextmanager
async def watching(url: str, key: str | None = None, **headers: str) -> AsyncIterator[Watcher]:
    watcher = Watcher()
    try:
        await watcher.connect(url, key, headers)
        yield watcher
    finally:
        await watcher.leave()


async def revoked_in_the_database(closed: Deployment, key_id: str) -> None:
    """As `tracehub keys revoke` does: nobody is told, it is found by looking."""
    connection = await asyncpg.connect(closed.database, ssl=False)
    assert await KeyStore(connection).revoke(uuid.UUID(key_id))
    await connection.close()


async def revoked_by_request(closed: Deployment, key_id: str) -> None:
    async with speaking(closed, ADMIN) as admin:
        assert (await admin.request("DELETE", f"/api/v1/keys/{key_id}", json={})).status_code == 204


async def logged_in(url: str, key: str) -> httpx.Cookies:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        answer = await client.post("/login", data={"key": key})
        assert answer.status_code == 303, answer.text
        return client.cookies


@pytest.mark.parametrize("end", [revoked_in_the_database, revoked_by_request])
async def test_what_a_revoked_key_opened_ends_everywhere(
    closed: Deployment, second: str, end: Callable[[Deployment, str], Any]
) -> None:
    made = await made_key(closed, "read")
    key = made["key"]
    async with httpx.AsyncClient(base_url=second, trust_env=False) as client:

        async def status(**headers: Any) -> int:
            return (await client.get("/services", headers=headers)).status_code

        async def opens() -> bool:
            return await status(**bearer(key)) == 200

        await eventually(opens)
        cookie = f"{COOKIE}={(await logged_in(second, key))[COOKIE]}"
        async with watching(closed.url, key) as one, watching(second, None, Cookie=cookie) as other:
            assert one.client.connected
            assert other.client.connected
            assert await status(cookie=cookie) == 200
            await end(closed, made["id"])

            async def is_over() -> bool:
                statuses = {await status(**bearer(key)), await status(cookie=cookie)}
                return statuses == {401} and not (one.client.connected or other.client.connected)

            await eventually(is_over, END_S)


@pytest.mark.parametrize("shown", ["header", "query"])
async def test_a_stream_ends_with_its_key(closed: Deployment, shown: str) -> None:
    made = await made_key(closed, "read")
    path, headers = "/api/v1/logs/stream", bearer(made["key"])
    if shown == "query":
        path, headers = f"{path}?token={made['key']}&tenant_id=team-s", {}
    async with (
        httpx.AsyncClient(base_url=closed.url, trust_env=False, timeout=END_S) as client,
        client.stream("GET", path, headers=headers) as stream,
    ):
        assert stream.status_code == 200
        lines = stream.aiter_lines()
        assert await anext(lines) == "retry: 2000"
        await revoked_in_the_database(closed, made["id"])
        async with asyncio.timeout(END_S):
            async for line in lines:
                assert line == ""


async def test_a_stream_of_all_tenants_is_for_unbound_admins(closed: Deployment) -> None:
    key = (await made_key(closed, "write", tenant_id="team-t"))["key"]
    path = "/api/v1/logs/stream?all_tenants=true&service=streamed"
    async with speaking(closed, READ) as reader:
        assert (await reader.get(path)).status_code == 403
    async with (
        speaking(closed, ADMIN) as admin,
        speaking(closed, key) as writer,
        speaking(closed, READ) as reader,
    ):
        own = reader.stream("GET", "/api/v1/logs/stream?service=streamed")
        async with admin.stream("GET", path) as stream, own as narrow:
            lines, others = stream.aiter_lines(), narrow.aiter_lines()
            assert await anext(lines) == await anext(others) == "retry: 2000"
            assert (await writer.post("/ingest", json=batch("streamed", 1))).status_code == 200
            async with asyncio.timeout(10):
                async for line in lines:
                    if line.startswith("data:"):
                        break
                assert (await speaking_once(closed, WRITE, batch("streamed", 7))) == 200
                async for line in others:
                    if line.startswith("data:"):
                        assert json.loads(line[5:])["message"] == "message 7"
                        break


async def speaking_once(closed: Deployment, key: str, body: Any) -> int:
    async with speaking(closed, key) as client:
        return (await client.post("/ingest", json=body)).status_code


async def test_a_key_of_another_backend_is_known_at_once(closed: Deployment, second: str) -> None:
    key = (await made_key(closed, "read"))["key"]

    async def opens() -> bool:
        async with httpx.AsyncClient(base_url=second, trust_env=False) as client:
            return (await client.get("/services", headers=bearer(key))).status_code == 200

    await eventually(opens, 1.0)  # sooner than it looks by itself


async def test_sockets_ask_for_a_key(closed: Deployment) -> None:
    pair = {"X-Api-Key": "any", "X-Api-Token": READ}
    for key, headers, is_in in (
        (None, {}, False),
        ("wrong", {}, False),
        (WRITE, {}, False),
        (READ, {}, True),
        (ADMIN, {}, True),
        (None, bearer(READ), True),
        (None, pair, True),
        ("wrong", bearer(READ), False),
        (READ, {"X-Tenant-ID": "a b"}, False),
    ):
        async with watching(closed.url, key, **headers) as watcher:
            assert watcher.client.connected is is_in, (key, headers)
            assert watcher.refused == ([] if is_in else ["unauthorized"]), (key, headers)


async def test_sockets_hear_of_their_own_tenant_and_service(closed: Deployment) -> None:
    one = (await made_key(closed, "read", "write", tenant_id="hears-one"))["key"]
    two = (await made_key(closed, "read", tenant_id="hears-two"))["key"]
    narrow = (await made_key(closed, "read", tenant_id="hears-one", app_key="narrow"))["key"]
    async with (
        watching(closed.url, one) as mine,
        watching(closed.url, two) as theirs,
        watching(closed.url, narrow) as narrowed,
        watching(f"{closed.url}?all_tenants=true", ADMIN) as admin,
        watching(f"{closed.url}?tenant_id=hears-one", READ) as named,
        watching(closed.url, READ) as ours,
        speaking(closed, one) as client,
    ):
        assert all(w.client.connected for w in (mine, theirs, narrowed, admin, named, ours))
        for service in ("wide", "narrow"):
            assert (await client.post("/ingest", json=batch(service, 1, 2, 3))).status_code == 200

        def heard(watcher: Watcher, event: str) -> set[str]:
            return {told["service"] for told in watcher.of(event)}

        def complete() -> bool:
            both = {"wide", "narrow"}
            return all(
                heard(w, event) == both for w in (mine, admin, named) for event in ("log:new", "ack:sent")
            ) and all(heard(narrowed, event) == {"narrow"} for event in ("log:new", "ack:sent"))

        await eventually(complete)

        def pictured(watcher: Watcher) -> Any:
            return watcher.of("metrics:snapshot")[-1]

        def shown() -> bool:
            return (
                all(w.of("metrics:snapshot") for w in (mine, theirs, narrowed))
                and {s["service"] for s in pictured(mine)["services"]} == {"wide", "narrow"}
                and pictured(mine)["totals"]["stored"] == 6
                and pictured(narrowed)["totals"]["stored"] == 3
            )

        await eventually(shown)
        assert {s["service"] for s in pictured(narrowed)["services"]} == {"narrow"}
        assert pictured(theirs)["services"] == []
        assert pictured(theirs)["totals"]["stored"] == 0
        for watcher in (theirs, ours):
            assert not watcher.of("log:new")
            assert not watcher.of("ack:sent")


async def test_logging_in_gives_a_cookie_that_is_no_key(closed: Deployment) -> None:
    async with speaking(closed) as client:
        page = await client.get("/", headers={"accept": "text/html"})
        assert (page.status_code, page.headers["location"]) == (303, "/login?next=/")
        deep = await client.get("/services/a?x=1", headers={"accept": "text/html"})
        assert deep.headers["location"] == "/login?next=/services/a%3Fx%3D1"
        form = await client.get(deep.headers["location"])
        assert 'value="/services/a?x=1"' in form.text
        policy = form.headers["content-security-policy"]
        assert "form-action 'self'" in policy
        assert "unsafe" not in policy
        assert "<script" not in form.text
        assert "style=" not in form.text
        assert (await client.get("/login.css")).headers["content-type"].startswith("text/css")
        answer = await client.post("/login", data={"key": f" {READ} ", "next": "/queue"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/queue")
        given = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Max-Age=43200", "Path=/"} <= set(given.split("; "))
        assert "Secure" not in given
        assert READ not in given
        secure = await client.post("/login", data={"key": READ}, headers={"x-forwarded-proto": "https"})
        assert "Secure" in secure.headers["set-cookie"]
        client.cookies.clear()
        cookie = re.match(rf"{COOKIE}=([^;]+)", given)
        assert cookie is not None
        shown = {"cookie": cookie[0], "accept": "text/html"}
        assert (await client.get("/", headers=shown)).status_code in (200, 503)  # 503: not built
        assert (await client.get("/api/v1/logs", headers=shown)).status_code == 200
        async with watching(closed.url, None, Cookie=cookie[0]) as watcher:
            assert watcher.client.connected
            out = await client.post("/logout", headers=shown)
            assert out.status_code == 303
            assert f'{COOKIE}=""' in out.headers["set-cookie"]
            assert (await client.get("/services", headers={"cookie": cookie[0]})).status_code == 401
            await eventually(lambda: not watcher.client.connected, END_S)


async def test_a_page_knows_whose_it_is(closed: Deployment) -> None:
    bound = await made_key(closed, "admin", tenant_id="team-w", app_key="svc-w")
    async with speaking(closed) as client:
        assert (await client.get("/whoami")).status_code == 401
        await client.post("/login", data={"key": ADMIN})
        told = await client.get("/whoami")
        assert told.headers["cache-control"] == "no-store"
        assert told.json() == {
            "loggedIn": True, "keyId": "environment:admin", "admin": True, "allTenants": True,
            "tenantId": DEFAULT_TENANT, "appKey": None,
        }  # fmt: skip
        named = (await client.get("/whoami?tenant_id=team-w")).json()
        assert named["tenantId"] == bound["tenant_id"]
        assert (await client.get("/whoami?tenant_id=a%20b")).json()["error"]["code"] == "invalid_tenant_id"
    async with speaking(closed, READ) as reader:
        told = (await reader.get("/whoami")).json()
        assert (told["loggedIn"], told["admin"], told["allTenants"]) == (False, False, False)
    async with speaking(closed, bound["key"]) as client:
        assert (await client.get("/whoami")).json() == {
            "loggedIn": False, "keyId": bound["id"], "admin": True, "allTenants": False,
            "tenantId": bound["tenant_id"], "appKey": "svc-w",
        }  # fmt: skip


async def test_who_may_not_log_in_is_told_why(closed: Deployment) -> None:
    async with speaking(closed) as client:
        for key, status, told in (
            ("", 401, "not valid"), ("th_" + "x" * 40, 401, "not valid"), (WRITE, 403, "may not read"),
        ):  # fmt: skip
            answer = await client.post("/login", data={"key": key})
            assert (answer.status_code, told in answer.text) == (status, True)
            assert "set-cookie" not in answer.headers
        foreign = await client.post("/login", data={"key": READ}, headers={"origin": "http://evil.example"})
        assert foreign.status_code == 403
        own = await client.post("/login", data={"key": READ}, headers={"origin": closed.url})
        assert own.status_code == 303


@pytest.mark.parametrize(
    "onwards", ["//evil.example", "/\\evil.example", "http://evil.example", "javascript:x", "/a\nb"]
)
async def test_logging_in_leads_to_our_own_pages_only(closed: Deployment, onwards: str) -> None:
    async with speaking(closed) as client:
        answer = await client.post("/login", data={"key": READ, "next": onwards})
        assert answer.headers["location"] == "/"
        form = await client.get("/login", params={"next": '/"><script>'})
        assert "<script>" not in form.text
        assert "&lt;script&gt;" in form.text


async def test_changes_with_the_cookie_need_our_header(closed: Deployment) -> None:
    cookies = await logged_in(closed.url, ADMIN)
    async with speaking(closed) as client:
        headers = {"cookie": f"{COOKIE}={cookies[COOKIE]}"}
        body = {"name": "by cookie", "scopes": ["read"]}
        refused = await client.post("/api/v1/keys", json=body, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        entries = await client.post("/ingest", json=batch("by-cookie", 1), headers=headers)
        assert entries.status_code == 403
        made = await client.post("/api/v1/keys", json=body, headers={**headers, "X-TraceHub": "1"})
        assert made.status_code == 201
        assert (await client.post("/api/v1/logs/query", json={}, headers=headers)).status_code == 200
