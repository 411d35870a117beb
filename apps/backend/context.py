"""What the doors of one backend process share; made once in app.py, found at `request.app.state.context`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from starlette.requests import HTTPConnection, Request

from apps.backend.access import INGEST, Access
from apps.backend.body import read_body, require_json
from apps.backend.faults import Faults
from apps.backend.live.board import Board
from apps.backend.live.feed import Feed
from apps.backend.live.snapshot import Snapshots
from apps.backend.live.sockets import Sockets
from apps.backend.live.trail import Trail
from apps.backend.metrics import Metrics
from apps.backend.numbering import Numbering
from apps.backend.submission import Submitter
from tracehub.pipeline.alerts import Outlook
from tracehub.protocol.addresses import is_loopback
from tracehub.protocol.errors import Forbidden, InvalidField, NotFound
from tracehub.protocol.fields import read_object
from tracehub.protocol.grants import ADMIN, Caller, Door
from tracehub.runtime.clock import Clock, Random
from tracehub.runtime.settings import Settings
from tracehub.storage.archive import Archives
from tracehub.storage.postgres.alerts import AlertStore
from tracehub.storage.postgres.counting import LogCounts
from tracehub.storage.postgres.keys import KeyStore
from tracehub.storage.postgres.ledger import PostgresLedger
from tracehub.storage.postgres.policies import Policies
from tracehub.storage.postgres.reading import LedgerReading
from tracehub.storage.postgres.search import LogSearch
from tracehub.storage.redis.buffers import RedisBuffers
from tracehub.storage.redis.cache import AnswerCache
from tracehub.storage.redis.queue import RedisQueue


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of a backend."""

    settings: Settings
    access: Access
    key_store: KeyStore
    redis: Redis
    queue: RedisQueue
    buffers: RedisBuffers
    ledger: PostgresLedger
    reading: LedgerReading
    search: LogSearch
    counts: LogCounts
    cache: AnswerCache
    alerts: AlertStore
    outlook: Outlook
    feed: Feed
    sockets: Sockets
    stopping: Callable[[], bool]  # whether the server has begun to stop
    submitter: Submitter
    numbering: Numbering
    faults: Faults
    board: Board
    snapshots: Snapshots
    trail: Trail
    metrics: Metrics
    clock: Clock
    random: Random
    policies: Policies
    archives: Archives


BIGINT_MAX = 2**63 - 1
NOBODYS = ""  # no service has this name


def context(request: HTTPConnection) -> Context:
    """The context of this process."""
    found: Context = request.app.state.context
    return found


def require(request: HTTPConnection, *scopes: str, door: Door = INGEST) -> Caller:
    """Who asks, when one of these scopes is theirs; see Access.require for what it raises."""
    return context(request).access.require(request, *scopes, door=door)


def require_admin(request: Request, door: Door = INGEST) -> Caller:
    """Who asks on a route that changes settings: JSON, from our own pages only. Raises also UnsupportedType.

    A DELETE, which no form of another site can send, need not say of what type its missing body is.
    """
    caller = require(request, ADMIN, door=door)
    if request.method != "DELETE" or "content-type" in request.headers:
        require_json(request, strict=True)
    require_own_page(request, caller)
    return caller


async def read_document(request: Request, most: int) -> dict[str, Any]:
    """The JSON object that a request brings, of at most `most` bytes. Raises what read_body and read_object do."""
    return read_object(await read_body(request, context(request).settings.body_timeout_s, most))


def require_own_page(request: Request, caller: Caller) -> None:
    """Refuse what a foreign web page, or DNS that was rebound, could send (log-service.md §1.5).

    With a key the Host may be any: a page that was rebound to us has none of our keys.
    """
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    try:
        name = urlsplit("//" + host).hostname or ""
        page = host if origin is None else urlsplit(origin).netloc
    except ValueError:
        name = page = ""
    if caller.grant is None and not is_loopback(name):
        raise Forbidden("this route is open to the machine itself only: call it by its loopback address")
    if page != host:
        raise Forbidden("this route cannot be called by another site's page")


def mended(text: str) -> str:
    """Text of a path or a query, as the same text in a body would be kept; so it can be asked for."""
    return text.replace("\0", "\ufffd")


def asked_service(request: Request, caller: Caller) -> str | None:
    """The service that a list is about: the caller's own where they have one.

    None: all services. A list about somebody else's is empty.
    """
    service = query_text(request, "service")
    if caller.app_key is None or service is None:
        return service or caller.app_key
    return service if service == caller.app_key else NOBODYS


def query_text(request: Request, name: str) -> str | None:
    """A text query parameter; absent and empty are None."""
    return mended(request.query_params.get(name, "")) or None


def row_id(request: Request) -> int:
    """The id in the path. Raises NotFound for one that no row can have."""
    number: int = request.path_params["id"]
    if number > BIGINT_MAX:
        raise NotFound
    return number


def query_int(request: Request, name: str, default: int, most: int) -> int:
    """An integer query parameter between 0 and `most`; larger ones are cut. Raises InvalidField."""
    text = request.query_params.get(name)
    if text is None or text == "":
        return default
    if not text.isascii() or not text.isdigit():
        raise InvalidField("must be an integer of at least 0", field=name)
    return min(int(text[:18]), most)
