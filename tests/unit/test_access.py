"""Letting in, over a table of keys in memory: what is known, what is open, what a cookie may do."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Mapping
from typing import Any, cast

import pytest
from starlette.requests import HTTPConnection

from apps.backend.access import COOKIE, INGEST, LOGIN_MS, Access
from apps.backend.errors import INGEST as DIALECT
from tests.eventually import eventually
from tracehub.protocol.credentials import Kind, digest
from tracehub.protocol.errors import (
    Forbidden,
    HalfAPair,
    InvalidTenantId,
    MissingKey,
    Overloaded,
    TraceHubError,
    Transient,
    Unauthorized,
    Unavailable,
    WrongKind,
)  # fmt: skip
from tracehub.protocol.grants import ADMIN, READ, WRITE, Door, Grant, with_implied
from tracehub.protocol.tenants import DEFAULT_TENANT, read_tenant
from tracehub.storage.postgres.keys import KeyStore, Login

NOW = 1_800_000_000_000
TEAM = read_tenant("team-a")


class Store:
    """A KeyStore without Postgres; `is_away` makes it one that is down."""

    def __init__(self) -> None:
        self.kept: dict[str, Grant] = {}
        self.logged_in: dict[bytes, Login] = {}
        self.is_away = False

    def add(self, secret: str, *scopes: str, **more: Any) -> None:
        self.kept[secret] = Grant(str(uuid.uuid4()), digest(secret), with_implied(scopes), **more)

    async def grants(self) -> list[Grant]:
        if self.is_away:
            raise Transient
        return list(self.kept.values())

    async def logins(self) -> dict[bytes, Login]:
        return dict(self.logged_in)

    async def log_in(self, cookie: bytes, login: Login) -> None:
        self.logged_in[cookie] = login

    async def log_out(self, cookie: bytes) -> None:
        self.logged_in.pop(cookie, None)


class Bus:
    def __init__(self) -> None:
        self.told: list[str] = []

    async def publish(self, event: str, data: Mapping[str, Any]) -> None:
        self.told.append(event)


class Doorstep:
    """An Access, its store, its bus and its clock."""

    def __init__(self, *given: tuple[str, str], may_be_open: bool = True) -> None:
        self.store, self.bus, self.now = Store(), Bus(), NOW
        self.access = Access(
            cast(KeyStore, self.store), self.bus, given, lambda: self.now, may_be_open=may_be_open
        )

    async def known(self) -> Access:
        await self.access.refresh()
        return self.access


def asking(query: str = "", method: str = "GET", **headers: str) -> HTTPConnection:
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return HTTPConnection(
        {"type": "http", "method": method, "headers": given, "query_string": query.encode(), "path": "/"}
    )


def bearer(key: str, query: str = "", method: str = "GET", **headers: str) -> HTTPConnection:
    return asking(query, method, authorization=f"Bearer {key}", **headers)


async def test_without_any_key_everybody_is_an_unbound_admin() -> None:
    access = await Doorstep().known()
    caller = access.require(asking(), WRITE)
    assert (caller.tenant_id, caller.is_unbound_admin, caller.key_id) == (DEFAULT_TENANT, True, None)
    assert access.require(asking("all_tenants=true"), READ).readable_tenant is None
    assert access.require(asking(x_tenant_id="team-a"), READ).readable_tenant == TEAM
    assert access.is_all_open


async def test_half_open_lets_strangers_in_where_no_key_grants_it() -> None:
    access = await Doorstep(("write", "w")).known()
    reader = access.require(asking(), READ)
    assert (reader.is_admin, reader.key_id, reader.scopes) == (False, None, {READ})
    assert access.require(bearer("wrong"), READ).key_id is None
    assert access.require(bearer("w"), READ).key_id == "environment:write"
    for scope in (WRITE, ADMIN):
        with pytest.raises(MissingKey):
            access.require(asking(), scope)
    with pytest.raises(WrongKind):
        access.require(bearer("w"), ADMIN)
    with pytest.raises(Forbidden):
        access.require(asking("all_tenants=true"), READ)


async def test_nothing_is_open_where_others_can_reach_us() -> None:
    for step in (Doorstep(may_be_open=False), Doorstep(("write", "w"), may_be_open=False)):
        access = await step.known()
        with pytest.raises(MissingKey):
            access.require(asking(), READ)


async def test_before_keys_were_read_openness_is_not_known() -> None:
    step = Doorstep(("write", "w"))
    step.store.is_away = True
    with pytest.raises(Transient):
        await step.access.refresh()
    assert step.access.require(bearer("w"), WRITE).key_id == "environment:write"
    with pytest.raises(MissingKey):
        step.access.require(asking(), WRITE)
    for asked in (asking(), bearer("perhaps in the database")):
        with pytest.raises(Unavailable):
            step.access.require(asked, READ)
    with pytest.raises(Unavailable):
        step.access.require(bearer("perhaps in the database"), WRITE)


async def test_while_the_database_is_away_the_last_known_keys_stay() -> None:
    step = Doorstep()
    step.store.add("k", READ)
    access = await step.known()
    step.store.kept.clear()
    step.store.is_away = True
    with pytest.raises(Transient):
        await access.refresh()
    assert access.require(bearer("k"), READ).key_id
    with pytest.raises(MissingKey):
        access.require(asking(), READ)


async def test_an_expired_key_opens_nothing_and_keeps_closed_what_it_closed() -> None:
    step = Doorstep()
    step.store.add("k", READ, expires_ms=NOW + 10)
    access = await step.known()
    caller = access.require(bearer("k"), READ)
    step.now += 10
    assert not access.stands(caller)
    await access.refresh()
    with pytest.raises(Unauthorized):
        access.require(bearer("k"), READ)
    with pytest.raises(MissingKey):
        access.require(asking(), READ)


async def test_a_revoked_key_no_longer_stands() -> None:
    step = Doorstep(("read", "other"))
    step.store.add("k", READ)
    access = await step.known()
    caller = access.require(bearer("k"), READ)
    assert access.stands(caller)
    del step.store.kept["k"]
    await access.refresh()
    assert not access.stands(caller)
    with pytest.raises(Unauthorized):
        access.require(bearer("k"), READ)


async def test_looking_goes_on_whatever_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or revoked keys would open doors for ever."""
    step = Doorstep(("read", "r"))
    monkeypatch.setattr("apps.backend.access.LOOK_S", 0.001)
    troubles: list[Exception] = [Transient(), ValueError("a mistake of ours")]

    async def grants() -> list[Grant]:
        if troubles:
            raise troubles.pop()
        return list(step.store.kept.values())

    monkeypatch.setattr(step.store, "grants", grants)
    step.store.add("k", READ)
    looking = asyncio.create_task(step.access.run())

    def is_known() -> bool:
        return step.access.require(bearer("k"), READ).key_id is not None

    async def opens() -> bool:
        with contextlib.suppress(Unavailable):
            return is_known()
        return False

    await eventually(opens)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def test_who_came_in_by_openness_goes_when_it_is_closed() -> None:
    step = Doorstep()
    access = await step.known()
    reader, writer = access.require(asking(), READ), access.require(asking(), WRITE)
    step.store.add("k", READ)
    await access.refresh()
    assert (access.stands(reader), access.stands(writer)) == (False, True)
    now = access.require(asking(), WRITE)
    assert (now.is_admin, now.scopes) == (False, {WRITE})


async def test_a_wrong_first_credential_is_not_made_good_by_a_right_second() -> None:
    access = await Doorstep(("read", "r")).known()
    with pytest.raises(Unauthorized):
        access.require(bearer("wrong", x_api_key="a", x_api_token="r"), READ)
    assert access.require(asking(x_api_key="a", x_api_token="r"), READ).writes_as == "a"
    with pytest.raises(MissingKey):
        access.require(asking("token=r"), READ)
    door = Door("logstream", Kind.TOKEN)
    assert access.require(asking("token=r"), READ, door=door).key_id


async def test_no_answer_tells_whether_a_client_exists() -> None:
    step = Doorstep(("admin", "a"))
    step.store.add("bound", READ, app_key="shop")
    access = await step.known()
    told = set()
    for asked, kind in (
        (asking(), MissingKey),
        (asking(x_api_key="shop"), HalfAPair),
        (asking(x_api_key="shop", x_api_token="wrong"), Unauthorized),
        (asking(x_api_key="unknown", x_api_token="bound"), Unauthorized),
        (bearer("wrong"), Unauthorized),
    ):
        with pytest.raises(kind) as refused:
            access.require(asked, READ)
        answer = DIALECT.answer(refused.value)
        told.add((answer.status_code, bytes(answer.body), answer.headers["www-authenticate"]))
    text = b'{"error":{"code":"unauthorized","message":"Missing or invalid API key"}}'
    assert told == {(401, text, "Bearer")}


async def test_a_key_for_other_doors_is_forbidden() -> None:
    step = Doorstep(("admin", "a"))
    step.store.add("browser", WRITE, doors=frozenset(("errors", "sentry")))
    access = await step.known()
    with pytest.raises(WrongKind):
        access.require(bearer("browser"), WRITE, door=INGEST)
    assert access.require(bearer("browser"), WRITE, door=Door("errors")).door == "errors"


async def test_a_bound_tenant_is_the_only_one() -> None:
    step = Doorstep(("admin", "a"))
    step.store.add("k", ADMIN, tenant_id=TEAM)
    access = await step.known()
    assert access.require(bearer("k"), READ).tenant_id == TEAM
    assert access.require(bearer("k", x_tenant_id="team-a"), READ).readable_tenant == TEAM
    for asked in (bearer("k", x_tenant_id="team-b"), bearer("k", "all_tenants=true")):
        with pytest.raises(Forbidden):
            access.require(asked, READ)
    with pytest.raises(InvalidTenantId):
        access.require(bearer("a", x_tenant_id="a b"), READ)
    unbound = access.require(bearer("a", "all_tenants=true"), READ)
    assert unbound.readable_tenant is None
    assert access.require(bearer("a", "all_tenants=1"), READ).readable_tenant == DEFAULT_TENANT


async def test_the_query_names_a_tenant_at_streams_only() -> None:
    access = await Doorstep().known()
    asked = asking("tenant_id=team-a")
    assert access.require(asked, READ).tenant_id == DEFAULT_TENANT
    stream = Door("logs", tenant_in_query=True)
    assert access.require(asked, READ, door=stream).tenant_id == TEAM
    both = asking("tenant_id=team-b", x_tenant_id="team-a")
    assert access.require(both, READ, door=stream).tenant_id == TEAM


async def test_rates_are_counted_by_key() -> None:
    step = Doorstep()
    step.store.add("slow", WRITE, rate=2.0)
    step.store.add("other", WRITE, rate=2.0)
    step.store.add("free", WRITE)
    access = await step.known()
    callers = {key: access.require(bearer(key), WRITE) for key in step.store.kept}
    access.take(callers["slow"], 10)
    await access.refresh()
    with pytest.raises(Overloaded) as refused:
        access.take(callers["slow"], 5)
    assert refused.value.retry_after_s == 3
    access.take(callers["other"], 10)
    access.take(callers["free"], 1_000_000)


async def test_a_cookie_stands_for_a_key_that_reads_until_either_ends() -> None:
    step = Doorstep(("write", "w"), ("read", "r"))
    access = await step.known()
    for key, kind in (("wrong", Unauthorized), ("w", WrongKind)):
        with pytest.raises(kind):
            await access.log_in(key, "random")
    await access.log_in("r", "random")
    assert step.bus.told == ["keys:changed"]
    asked = asking(cookie=f'odd="; {{]; {COOKIE}=random; x=1')
    caller = access.require(asked, READ)
    assert caller.key_id == "environment:read"
    assert "random" not in repr(step.store.logged_in)
    with pytest.raises(Unauthorized):  # what is shown otherwise decides
        access.require(bearer("wrong", cookie=f"{COOKIE}=random"), READ)
    step.now += LOGIN_MS
    assert not access.stands(caller)
    with pytest.raises(MissingKey):
        access.require(asked, READ)


async def test_logging_out_ends_what_the_cookie_opened() -> None:
    step = Doorstep(("admin", "a"))
    access = await step.known()
    await access.log_in("a", "random")
    asked = asking(cookie=f"{COOKIE}=random")
    caller = access.require(asked, READ)
    await access.log_out(asked)
    assert not access.stands(caller)
    assert step.store.logged_in == {}


async def test_changes_with_a_cookie_need_a_header_that_forms_cannot_send() -> None:
    access = await Doorstep(("admin", "a")).known()
    await access.log_in("a", "random")
    cookie = f"{COOKIE}=random"
    for method in ("POST", "DELETE", "PUT"):
        with pytest.raises(Forbidden):
            access.require(asking("", method, cookie=cookie), ADMIN)
        with pytest.raises(Forbidden):
            access.require(asking("", method, cookie=cookie, x_tracehub="0"), ADMIN)
        assert access.require(asking("", method, cookie=cookie, x_tracehub="1"), ADMIN).is_admin
    assert access.require(asking("", "GET", cookie=cookie), ADMIN).is_admin
    assert access.require(asking("", "POST", cookie=cookie), READ).is_admin


async def test_other_backends_are_told_and_believe_only_the_database() -> None:
    from tracehub.protocol.messages import LiveMessage

    step = Doorstep()
    access = await step.known()
    step.store.add("k", READ)
    assert not await access.heard(LiveMessage("stored", {}))
    assert access.is_all_open
    assert await access.heard(LiveMessage("keys:changed", {}))
    assert not access.is_all_open
    step.store.is_away = True
    assert not await access.heard(LiveMessage("keys:changed", {}))
    await access.changed()
    assert step.bus.told == ["keys:changed"]
    assert issubclass(Transient, TraceHubError)
