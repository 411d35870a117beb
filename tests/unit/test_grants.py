"""What a key allows, what stays open beside it, and how fast it may write."""

from __future__ import annotations

from typing import Any

import pytest

from apps.backend.answers import scoped
from tracehub.protocol.errors import InvalidField, InvalidTenantId
from tracehub.protocol.filters import LogFilter
from tracehub.protocol.grants import (
    EVERY_SCOPE,
    Bucket,
    Caller,
    NewKey,
    environment_grants,
    open_scopes,
    read_new_key,
)
from tracehub.protocol.tenants import DEFAULT_TENANT, read_tenant

NOW = 1_800_000_000_000
GOOD = {"name": "shop", "scopes": ["write"]}


@pytest.mark.parametrize(
    ("given", "still_open"),
    [
        ([], {"write", "read", "admin"}),
        ([("write", "a")], {"read"}),
        ([("read", "a")], {"write"}),
        ([("admin", "a")], set()),
        ([("write", "a"), ("read", "b")], set()),
    ],
)
def test_a_scope_is_open_while_no_key_grants_it(given: list[tuple[str, str]], still_open: set[str]) -> None:
    assert open_scopes(environment_grants(given).values()) == still_open


def test_one_key_for_two_scopes_has_both() -> None:
    (grant,) = environment_grants([("write", "same"), ("read", "same")]).values()
    assert grant.scopes == {"write", "read"}
    (admin,) = environment_grants([("admin", "a")]).values()
    assert admin.scopes == EVERY_SCOPE


def test_a_bucket_holds_five_seconds_and_fills_at_its_rate() -> None:
    bucket = Bucket(10.0, 100.0)
    assert bucket.take(50, 100.0) == 0
    assert bucket.take(1, 100.0) == 1
    assert bucket.take(15, 100.5) == 1
    assert bucket.take(5, 100.5) == 0
    assert bucket.take(50, 101.5) == 4  # 10 are there
    assert bucket.take(50, 1_000.0) == 0  # never more than it holds
    assert bucket.take(1, 1_000.0) == 1


def test_more_than_a_bucket_holds_is_never_taken_at_once() -> None:
    bucket = Bucket(2.0, 0.0)
    assert bucket.take(11, 0.0) >= 1
    assert bucket.take(10, 0.0) == 0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = Bucket(10.0, 100.0)
    assert bucket.take(50, 100.0) == 0
    assert bucket.take(1, 50.0) == 1


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, NewKey("shop", ("write",))),
        ({"tenant_id": None, "doors": None, "rate": None}, NewKey("shop", ("write",))),
        ({"scopes": ["admin", "read", "read"]}, NewKey("shop", ("read", "admin"))),
        ({"tenant_id": "team-a"}, NewKey("shop", ("write",), read_tenant("team-a"))),
        ({"doors": ["sentry", "errors"]}, NewKey("shop", ("write",), doors=("errors", "sentry"))),
        ({"rate": 5}, NewKey("shop", ("write",), rate=5.0)),
        ({"expires_at": "2999-01-01T00:00:00Z"}, NewKey("shop", ("write",), expires_ms=32_472_144_000_000)),
    ],
)
def test_a_wanted_key_is_read(more: dict[str, Any], wanted: NewKey) -> None:
    assert read_new_key({**GOOD, **more}, NOW) == wanted


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": 5}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": "write"}, "scopes"),
        ({"scopes": ["read", "root"]}, "scopes[1]"),
        ({"scopes": [["write"]]}, "scopes[0]"),
        ({"doors": ["front"]}, "doors[0]"),
        ({"app_key": ""}, "app_key"),
        ({"rate": 0}, "rate"),
        ({"rate": True}, "rate"),
        ({"rate": "5"}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": 5}, "expires_at"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"key": "mine"}, "key"),
    ],
)
def test_the_first_bad_field_of_a_key_is_named(more: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        read_new_key({**GOOD, **more}, NOW)
    assert refused.value.field == field


def test_a_bad_tenant_has_a_code_of_its_own() -> None:
    with pytest.raises(InvalidTenantId):
        read_new_key({**GOOD, "tenant_id": "a b"}, NOW)


def test_the_body_names_the_tenant_only_where_nothing_else_does() -> None:
    assert Caller().tenant_for(None) == DEFAULT_TENANT
    assert Caller().tenant_for("team-a") == read_tenant("team-a")
    bound = Caller(tenant_id=read_tenant("b"), bound_tenant=True, may_choose_tenant=False)
    assert bound.tenant_for("team-a") == bound.tenant_for("not a tenant") == read_tenant("b")
    with pytest.raises(InvalidTenantId):
        Caller().tenant_for("a b")


def test_a_filter_within_a_service_never_leaves_it() -> None:
    host, bound = ("host", ("h",)), Caller(app_key="a")
    assert scoped(LogFilter(exact=(host,)), Caller()).exact == (host,)
    assert scoped(LogFilter(exact=(host,)), bound).exact == (("service", ("a",)), host)
    assert scoped(LogFilter(exact=(("service", ("a", "b")),)), bound).exact == (("service", ("a",)),)
    assert scoped(LogFilter(exact=(("service", ("b",)),)), bound).exact == (("service", ()),)
