"""The backend process: all HTTP and Socket.IO on one port. `python -m apps.backend`.

Refuses to listen beyond loopback while everything is open (exit 2). Stops on SIGTERM or SIGINT: accepts no
more, lets running requests end, closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from ipaddress import ip_address
from types import FrameType

import uvicorn
import uvloop

from apps.backend.app import build
from apps.backend.protocol import BoundedProtocol
from tracehub.runtime import logging as logs
from tracehub.runtime.lifecycle import freeze_heap
from tracehub.runtime.settings import Settings

KEEP_ALIVE_S = 30
DRAIN_S = 10


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def main() -> None:
    """Entry point of `tracehub backend`."""
    settings = Settings()
    logs.configure(settings.log_level, settings.log_format)
    if not is_loopback(settings.host) and not settings.insecure:
        sys.stderr.write(
            f"tracehub: nothing protects this server yet, so it does not listen on {settings.host}; "
            "use TRACEHUB_HOST=127.0.0.1, or set TRACEHUB_INSECURE=1 if something else guards it\n"
        )
        raise SystemExit(2)
    freeze_heap()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        started = runner.run(serve(settings))
    if not started:
        raise SystemExit(3)


class _Server(uvicorn.Server):
    """Says at once that it stops: uvicorn itself waits until every stream has ended."""

    def __init__(self, config: uvicorn.Config, stop: threading.Event) -> None:
        super().__init__(config)
        self._stop = stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn."""
        self._stop.set()
        super().handle_exit(sig, frame)


async def serve(settings: Settings) -> bool:
    """Serve until a signal comes; False when the server could not start (the log says why)."""
    stop = threading.Event()
    config = uvicorn.Config(
        build(settings, stop.is_set),
        host=settings.host,
        port=settings.port,
        http=BoundedProtocol,
        ws="websockets-sansio",
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
        await server.serve()
    return server.started


if __name__ == "__main__":
    main()
