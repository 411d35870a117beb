"""The backend process: all HTTP and Socket.IO on each of its ports. `python -m apps.backend`.

Refuses to listen beyond loopback while no key is needed to write or to read, and on a port that is taken (exit 2).
Stops on SIGTERM or SIGINT: accepts no more, lets running requests end, closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
from types import FrameType

import asyncpg
import uvicorn
import uvloop

from apps.backend.app import build
from apps.backend.protocol import BoundedProtocol
from apps.backend.websocket import PING_S, PatientProtocol
from tracehub.protocol.addresses import is_loopback
from tracehub.protocol.errors import TraceHubError
from tracehub.protocol.grants import READ, WRITE, Grant, environment_grants, open_scopes
from tracehub.runtime import logging as logs
from tracehub.runtime.lifecycle import freeze_heap
from tracehub.runtime.listening import ListenError, listening
from tracehub.runtime.settings import Settings, read_settings
from tracehub.storage.postgres.keys import KeyStore

KEEP_ALIVE_S = 30
DRAIN_S = 10
DATABASE_S = 5.0
NEEDED = {WRITE: "TRACEHUB_WRITE_KEY", READ: "TRACEHUB_READ_KEY"}


def main() -> None:
    """Entry point of `tracehub backend`."""
    settings = read_settings()
    logs.configure(settings.log_level, settings.log_format)
    if not is_loopback(settings.host) and not settings.insecure and (reason := why_open(settings)):
        sys.stderr.write(
            f"tracehub: {reason}, so it does not listen on {settings.host}; set the key, use "
            "TRACEHUB_HOST=127.0.0.1, or set TRACEHUB_INSECURE=1 if something else guards it\n"
        )
        raise SystemExit(2)
    try:
        sockets = listening(settings.host, settings.listeners())
    except ListenError as error:
        sys.stderr.write(f"tracehub: {error}\n")
        raise SystemExit(2) from None
    freeze_heap()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        started = runner.run(serve(settings, sockets))
    if not started:
        raise SystemExit(3)


def why_open(settings: Settings) -> str:
    """Which key is missing, so that everybody could write or read; nothing when all is closed.

    The database is asked only where the environment does not settle it.
    """
    known = list(environment_grants(settings.given_keys()).values())
    unread = ""
    if open_scopes(known).intersection(NEEDED):
        try:
            known += asyncio.run(_grants(settings.database()))
        except (TraceHubError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            unread = " and the database's keys cannot be read"
    missing = [name for scope, name in NEEDED.items() if scope in open_scopes(known)]
    return f"no key {' or '.join(missing)} is set{unread}" if missing else ""


async def _grants(url: str) -> list[Grant]:
    async with asyncio.timeout(DATABASE_S):
        connection = await asyncpg.connect(url, ssl=None if "sslmode=" in url else False)
        try:
            return await KeyStore(connection).grants()
        finally:
            await connection.close()


class _Server(uvicorn.Server):
    """Says at once that it stops: uvicorn itself waits until every stream has ended."""

    def __init__(self, config: uvicorn.Config, stop: threading.Event) -> None:
        super().__init__(config)
        self._stop = stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn."""
        self._stop.set()
        super().handle_exit(sig, frame)


async def serve(settings: Settings, sockets: list[socket.socket]) -> bool:
    """Serve until a signal comes; False when the server could not start (the log says why)."""
    stop = threading.Event()
    config = uvicorn.Config(
        build(settings, stop.is_set),
        http=BoundedProtocol,
        ws=PatientProtocol,
        ws_ping_interval=PING_S,
        ws_max_size=64 * 1024,
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=settings.connections_max,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = _Server(config, stop)
    with contextlib.suppress(KeyboardInterrupt):
        await server.serve(sockets)
    return server.started


if __name__ == "__main__":
    main()
