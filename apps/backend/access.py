"""Who may do what (log-service.md §1.4, §1.5): every door asks `Access.require` before anything else.

1. All keys are held in memory by their digest, read anew every LOOK_S and at once when somebody says that they
   changed; so asking costs no I/O, a revoked key ends within 5 s, and while Postgres is away the last known stay.
2. Before the keys were read once nobody is let in by openness: whether there are keys is not known yet (503).
3. A scope that no key grants is open; `admin` only while there is no key at all. An expired key still keeps its
   scope closed. Where others than this machine can reach us nothing is ever open, unless TRACEHUB_INSECURE says so.
4. Rates are counted by each backend for itself: n backends let n times the rate through.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import parse_qsl

import structlog
from starlette.requests import HTTPConnection, cookie_parser
from starlette.types import Scope

from tracehub.protocol.credentials import Credential, Missing, digest, read_credential
from tracehub.protocol.errors import (
    Forbidden,
    HalfAPair,
    MissingKey,
    Overloaded,
    TraceHubError,
    Unauthorized,
    Unavailable,
    WrongKind,
)  # fmt: skip
from tracehub.protocol.grants import (
    ADMIN,
    APP_KEY_CHARS_MAX,
    READ,
    Bucket,
    Caller,
    Door,
    Grant,
    environment_grants,
    open_scopes,
)
from tracehub.protocol.messages import LiveMessage
from tracehub.protocol.tenants import DEFAULT_TENANT, read_tenant
from tracehub.runtime.clock import Clock, monotonic_s
from tracehub.storage.postgres.keys import KeyStore, Login

log = structlog.get_logger()

LOOK_S = 2.0
LOOK_TIMEOUT_S = 3.0
LOGIN_MS = 12 * 3_600_000
COOKIE = "tracehub_login"
CHANGED = "keys:changed"
OPENNESS_UNKNOWN = "the keys could not be read yet; try again later"
INGEST = Door("ingest")
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


class Bus(Protocol):
    """Tells all backends."""

    async def publish(self, event: str, data: Mapping[str, Any]) -> None:
        """See ports.Queue."""


class Access:
    """The keys of one backend. `may_be_open`: whether only this machine reaches us, or somebody else guards us."""

    def __init__(
        self, store: KeyStore, bus: Bus, given: Iterable[tuple[str, str]], clock: Clock, *, may_be_open: bool
    ) -> None:  # fmt: skip
        self._store = store
        self._bus = bus
        self._clock = clock
        self._may_be_open = may_be_open
        self._environment = environment_grants(given)
        self._grants = self._environment
        self._logins: dict[bytes, Login] = {}
        self._is_known = False
        self._open: frozenset[str] = frozenset()
        self._callers: dict[tuple[Any, ...], Caller] = {}  # made since the last look, by what made them
        self._buckets: dict[str, Bucket] = {}
        self._looking = asyncio.Lock()

    # ------------------------------------------------------------------ what is known

    async def run(self) -> None:
        """Look until cancelled."""
        was_away = False
        while True:
            try:
                await self.refresh()
                was_away = False
            except TraceHubError:
                if not was_away:
                    log.warning("access.stale")
                was_away = True
            except Exception as error:  # whatever it is: who looks no more lets revoked keys in for ever
                log.exception("access.look_failed", error=type(error).__name__)
            await asyncio.sleep(LOOK_S)

    async def refresh(self) -> None:
        """Read keys and logins. Raises Transient, and Unavailable when it takes too long."""
        async with self._looking:  # one after the other, so that what is older never comes later
            try:
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    grants, logins = await self._store.grants(), await self._store.logins()
            except TimeoutError:
                raise Unavailable from None
            self._grants = {grant.digest: grant for grant in grants} | self._environment
            self._logins = logins
            self._is_known = True
            self._open = open_scopes(self._grants.values()) if self._may_be_open else frozenset()
            self._callers.clear()
            alive = {grant.id for grant in self._grants.values()}
            self._buckets = {key: bucket for key, bucket in self._buckets.items() if key in alive}

    async def heard(self, live: LiveMessage) -> bool:
        """A message of the live bus; True when it said that keys changed."""
        if live.event != CHANGED:
            return False
        try:
            await self.refresh()
        except TraceHubError:
            return False  # the next look finds it
        return True

    async def changed(self) -> None:
        """Keys were changed here: know it at once, and tell the other backends. What fails is found by looking."""
        with contextlib.suppress(TraceHubError):
            await self.refresh()
        with contextlib.suppress(TraceHubError):
            await self._bus.publish(CHANGED, {})

    @property
    def is_all_open(self) -> bool:
        """Whether there is no key at all, and everybody may do everything."""
        return ADMIN in self._open

    def stands(self, caller: Caller) -> bool:
        """Whether somebody who was let in, and whose stream or socket is still open, would be let in again."""
        if caller.grant is None:
            return not self._open.isdisjoint(caller.wanted)
        grant = self._alive(caller.grant.digest)
        return grant is not None and (caller.login is None or self._login(caller.login) is grant)

    # ------------------------------------------------------------------ letting in

    def require(
        self, request: HTTPConnection, *scopes: str, door: Door = INGEST, shown: Credential | None = None
    ) -> Caller:
        """Who asks, when one of these scopes is theirs. `shown`: a key that came by a way of its own.

        Raises Unauthorized (MissingKey when none was shown, HalfAPair when half of one was), WrongKind (scope or
        door of a good key), Forbidden (tenant, a cookie's change without its header), InvalidTenantId,
        Unavailable (the keys are not known yet).
        """
        scope = request.scope
        if ADMIN in self._open:
            caller = self._stranger(scopes, door)
        else:
            caller = self._recognised(scope, scopes, door, shown=shown)
        return _in_tenant(caller, scope, door)

    def _recognised(
        self, scope: Scope, scopes: tuple[str, ...], door: Door, *, shown: Credential | None
    ) -> Caller:
        found = shown or read_credential(scope["headers"], scope["query_string"], door.kinds)
        login: bytes | None = None
        if isinstance(found, Credential):
            grant, app_key = self._alive(digest(found.secret)), found.app_key
        else:
            login, app_key = _cookie(scope), None
            grant = self._login(login) if login else None
        if grant is not None and not _fits(grant, app_key):
            grant = None
        is_open = not self._open.isdisjoint(scopes)
        if grant is None:
            if is_open:
                return self._stranger(scopes, door)
            raise self._refusal(found, scopes)
        if not is_open:
            if grant.doors is not None and door.name not in grant.doors:
                raise WrongKind("this key is not for this door")
            if grant.scopes.isdisjoint(scopes):
                raise WrongKind(f"this key has not the scope {' or '.join(scopes)}")
        if login and scope["type"] == "http" and scopes != (READ,):
            _require_header(scope)
        key = (grant.digest, login, app_key, scopes, door.name)
        if key not in self._callers:
            bound = grant.tenant_id
            self._callers[key] = Caller(
                tenant_id=bound or DEFAULT_TENANT,
                scopes=grant.scopes | self._open,
                wanted=scopes,
                door=door.name,
                grant=grant,
                bound_tenant=bound is not None,
                may_choose_tenant=bound is None,
                app_key=grant.app_key,
                writes_as=grant.app_key or app_key,
                login=login,
            )
        return self._callers[key]

    def _refusal(self, found: Credential | Missing, scopes: tuple[str, ...]) -> TraceHubError:
        closed = any(not grant.scopes.isdisjoint(scopes) for grant in self._environment.values())
        if not self._is_known and (isinstance(found, Credential) or not closed):
            return Unavailable(OPENNESS_UNKNOWN)
        if isinstance(found, Credential):
            return Unauthorized()
        return HalfAPair() if found is Missing.HALF_A_PAIR else MissingKey()

    def _stranger(self, scopes: tuple[str, ...], door: Door) -> Caller:
        """Somebody whom openness lets in: as an unbound key."""
        key = (scopes, door.name)
        if key not in self._callers:
            self._callers[key] = Caller(scopes=self._open, wanted=scopes, door=door.name)
        return self._callers[key]

    def _alive(self, shown: bytes) -> Grant | None:
        grant = self._grants.get(shown)
        # The table is searched by a digest, of which time tells nothing that helps; this makes it certain.
        if grant is None or not hmac.compare_digest(grant.digest, shown) or not grant.holds(self._clock()):
            return None
        return grant

    # ------------------------------------------------------------------ rates

    def take(self, caller: Caller, entries: int) -> None:
        """Count entries that are about to be stored. Raises Overloaded when the key is over its rate."""
        grant = caller.grant
        if grant is None or grant.rate is None:
            return
        now_s = monotonic_s()
        bucket = self._buckets.get(grant.id)
        if bucket is None:
            bucket = self._buckets[grant.id] = Bucket(grant.rate, now_s)
        if wait_s := bucket.take(entries, now_s):
            raise Overloaded("this key is over its rate; try again later", retry_after_s=wait_s)

    # ------------------------------------------------------------------ browsers

    async def log_in(self, secret: str, cookie: str) -> None:
        """Let `cookie` (random, made by the caller) stand for a key for LOGIN_MS.

        Raises Unauthorized, WrongKind (it may not read), Transient.
        """
        grant = self._alive(digest(secret))
        if grant is None:
            raise Unauthorized if self._is_known else Unavailable(OPENNESS_UNKNOWN)
        if READ not in grant.scopes or (grant.doors is not None and INGEST.name not in grant.doors):
            raise WrongKind("this key may not read")
        login = Login(grant.digest, self._clock() + LOGIN_MS)
        await self._store.log_in(digest(cookie), login)
        self._logins[digest(cookie)] = login
        await self.changed()

    async def log_out(self, request: HTTPConnection) -> None:
        """Forget the login of this cookie; without one nothing happens. Raises Transient."""
        if login := _cookie(request.scope):
            await self._store.log_out(login)
            self._logins.pop(login, None)
            await self.changed()

    def _login(self, shown: bytes) -> Grant | None:
        login = self._logins.get(shown)
        if login is None or login.expires_ms <= self._clock():
            return None
        return self._alive(login.key_digest)


def _in_tenant(caller: Caller, scope: Scope, door: Door) -> Caller:
    """The same caller in the tenant that the request names. Raises InvalidTenantId, Forbidden."""
    given = b""
    for wanted in door.tenant_headers:
        for name, value in scope["headers"]:  # a plain loop: this is asked of every request
            if name == wanted:
                given = given or value.strip()
    query = scope["query_string"]
    if not given and door.tenant_in_query and b"tenant_id" in query:
        given = _parameter(query, "tenant_id").encode("utf-8", "replace")
    if given:
        tenant_id = read_tenant(given.decode("utf-8", "replace"))
        if caller.bound_tenant and tenant_id != caller.tenant_id:
            raise Forbidden("this key belongs to another tenant")
        caller = replace(caller, tenant_id=tenant_id, may_choose_tenant=False)
    if b"all_tenants" in query and _parameter(query, "all_tenants").lower() == "true":
        if not caller.is_unbound_admin:
            raise Forbidden("only an admin of all tenants may ask for all of them")
        caller = replace(caller, all_tenants=True)
    return caller


def _parameter(query: bytes, name: str) -> str:
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return next((value.strip() for key, value in pairs if key == name), "")


def _fits(grant: Grant, app_key: str | None) -> bool:
    """Whether the first half of a pair is the key's own service, where it has one, and could be one at all."""
    if app_key is None:
        return True
    if grant.app_key is None:
        return len(app_key) <= APP_KEY_CHARS_MAX
    return hmac.compare_digest(app_key.encode("utf-8", "replace"), grant.app_key.encode())


def _cookie(scope: Scope) -> bytes | None:
    """The digest of the login cookie."""
    for name, value in scope["headers"]:
        if name == b"cookie" and (given := cookie_parser(value.decode("latin-1")).get(COOKIE)):
            return digest(given)
    return None


def _require_header(scope: Scope) -> None:
    """Another site's form can carry a cookie, but no header of ours."""
    if scope["method"] not in _SAFE and (b"x-tracehub", b"1") not in scope["headers"]:
        raise Forbidden("changes made with the login cookie need the header X-TraceHub: 1")
