"""What a key allows, and who calls because of it (log-service.md §1.4, §1.5). Pure; time is an argument.

Rules: admin implies write and read; a bound tenant or service is the only one a key reaches; a list of doors is
the only ones it opens; an expired key is no key. A rate is a bucket that holds BUCKET_S of it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta

from tracehub.protocol.credentials import EVERYWHERE, Kind, digest
from tracehub.protocol.errors import InvalidField
from tracehub.protocol.shapes import Tenant, Time, shaped
from tracehub.protocol.tenants import DEFAULT_TENANT, read_tenant
from tracehub.protocol.times import parse_time

READ: Final = "read"
WRITE: Final = "write"
ADMIN: Final = "admin"
Scope = Literal["write", "read", "admin"]
DoorName = Literal["ingest", "logs", "otlp", "loki", "logstream", "errors", "sentry", "profiles"]
SCOPES: Final[tuple[str, ...]] = get_args(Scope)
EVERY_SCOPE: Final = frozenset(SCOPES)
DOORS: Final[tuple[str, ...]] = get_args(DoorName)
BUCKET_S: Final = 5.0
NAME_CHARS_MAX: Final = 100
APP_KEY_CHARS_MAX: Final = 100
RATE_MAX: Final = 1e9


def with_implied(scopes: Iterable[str]) -> frozenset[str]:
    """The scopes and what they imply."""
    given = frozenset(scopes)
    return EVERY_SCOPE if ADMIN in given else given


@dataclass(frozen=True, slots=True)
class Grant:
    """One key. `scopes` hold what they imply; None: any tenant, any service, every door, no rate, for ever."""

    id: str
    digest: bytes
    scopes: frozenset[str]
    tenant_id: str | None = None
    app_key: str | None = None
    doors: frozenset[str] | None = None
    rate: float | None = None  # entries per second
    expires_ms: int | None = None

    def holds(self, now_ms: int) -> bool:
        """Whether it has not expired."""
        return self.expires_ms is None or now_ms < self.expires_ms


def environment_grants(given: Iterable[tuple[str, str]]) -> dict[bytes, Grant]:
    """The keys of the environment, (scope, key) each, by digest; the same key for two scopes is one key."""
    grants: dict[bytes, Grant] = {}
    for scope, key in given:
        known = grants.get(digest(key))
        scopes = with_implied((*(known.scopes if known else ()), scope))
        grants[digest(key)] = Grant(f"environment:{scope}", digest(key), scopes)
    return grants


def open_scopes(grants: Iterable[Grant]) -> frozenset[str]:
    """What stays open beside these keys."""
    granted = [grant.scopes for grant in grants]
    if not granted:
        return EVERY_SCOPE
    return EVERY_SCOPE.difference((ADMIN,), *granted)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who was let in. `grant` None: by open mode, as an unbound key with these scopes.

    tenant_id: a UUID; bound_tenant: the key's own; may_choose_tenant: neither key nor header named one.
    app_key: the only service that is read and written; writes_as: the service of what is written, also where
    only the header pair says so. all_tenants: reads reach every tenant.
    """

    tenant_id: str = DEFAULT_TENANT
    scopes: frozenset[str] = frozenset()
    wanted: tuple[str, ...] = ()  # any one of these let them in
    door: str = ""
    grant: Grant | None = None
    bound_tenant: bool = False
    may_choose_tenant: bool = True
    app_key: str | None = None
    writes_as: str | None = None
    all_tenants: bool = False
    login: bytes | None = None  # digest of the cookie that was shown

    @property
    def key_id(self) -> str | None:
        """The id of the key; None in open mode."""
        return self.grant.id if self.grant else None

    @property
    def is_admin(self) -> bool:
        """Whether the scope admin is there."""
        return ADMIN in self.scopes

    @property
    def is_bound(self) -> bool:
        """Whether there is a tenant or a service beyond which the key does not reach."""
        return self.bound_tenant or self.app_key is not None

    @property
    def is_unbound_admin(self) -> bool:
        """An admin of all tenants and services."""
        return self.is_admin and not self.is_bound

    @property
    def readable_tenant(self) -> str | None:
        """The tenant whose data may be read; None: all of them."""
        return None if self.all_tenants else self.tenant_id

    def tenant_for(self, given: object) -> str:
        """The tenant of something whose body names one (None: it does not). Raises InvalidTenantId.

        What a bound key or a header says stands; then the body's is not even looked at.
        """
        if not self.may_choose_tenant or given is None:
            return self.tenant_id
        return read_tenant(given)

    def may_touch(self, service: str) -> bool:
        """Whether this service may be read and written."""
        return self.app_key is None or service == self.app_key

    def may_write(self, service: str) -> bool:
        """Whether this service may be written; a header pair names the only one."""
        return self.writes_as is None or service == self.writes_as


@dataclass(frozen=True, slots=True)
class Door:
    """What one door reads of a request: its name in lists of doors, kinds of credentials, where a tenant stands."""

    name: str
    kinds: Kind = EVERYWHERE
    tenant_headers: tuple[bytes, ...] = (b"x-tenant-id",)
    tenant_in_query: bool = False  # ?tenant_id=, for streams that a browser opens


class Bucket:
    """Tokens, one per entry: `rate` a second come in, at most BUCKET_S of it stay."""

    __slots__ = ("_at_s", "_tokens", "rate")

    def __init__(self, rate: float, now_s: float) -> None:
        self.rate = rate
        self._tokens = rate * BUCKET_S
        self._at_s = now_s

    def take(self, count: int, now_s: float) -> int:
        """Take `count` tokens: 0. Too few there: nothing is taken, and the answer is when to come again, in whole
        seconds. More than the bucket ever holds cannot be taken at once, so those must come in parts."""
        self._tokens = min(self.rate * BUCKET_S, self._tokens + max(0.0, now_s - self._at_s) * self.rate)
        self._at_s = now_s
        if count <= self._tokens + 1e-9:
            self._tokens -= count
            return 0
        lacking = min(count, self.rate * BUCKET_S) - self._tokens
        return max(1, math.ceil(lacking / self.rate))


class KeyBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /api/v1/keys; null is absent."""

    name: Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
    scopes: Annotated[list[Scope], Meta(min_length=1)]
    tenant_id: Tenant = None
    app_key: Annotated[str, Meta(min_length=1, max_length=APP_KEY_CHARS_MAX)] | None = None
    doors: Annotated[list[DoorName], Meta(min_length=1)] | None = None
    rate: Annotated[float, Meta(gt=0, le=RATE_MAX, description="entries per second")] | None = None
    expires_at: Time | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that somebody wants."""

    name: str
    scopes: tuple[str, ...]
    tenant_id: str | None = None
    app_key: str | None = None
    doors: tuple[str, ...] | None = None
    rate: float | None = None
    expires_ms: int | None = None


def read_new_key(document: Any, now_ms: int) -> NewKey:
    """Of a KeyBody. Raises InvalidField, InvalidTenantId."""
    body = shaped(document, KeyBody)
    return NewKey(
        body.name,
        _in_order(body.scopes, SCOPES),
        None if body.tenant_id is None else read_tenant(body.tenant_id),
        body.app_key,
        None if body.doors is None else _in_order(body.doors, DOORS),
        body.rate,
        None if body.expires_at is None else _expiry(body.expires_at, now_ms),
    )


def _in_order(words: Collection[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Each once."""
    return tuple(word for word in known if word in words)


def _expiry(text: str, now_ms: int) -> int:
    try:
        moment = parse_time(text)
    except ValueError:
        moment = now_ms
    if moment <= now_ms:
        raise InvalidField("must be an RFC 3339 time that is still to come", field="expires_at")
    return moment
