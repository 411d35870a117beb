"""What differs between the ports of one process (log-service.md §9): `/`, and nothing else.

On HTTP_PORT it is the API documentation; on WS_PORT a WebSocket is accepted on any path, except Socket.IO's, which
is on every port (logstream.md §1). On the others `/` is that of TRACEHUB_PORT.
"""

from __future__ import annotations

from typing import Final

from starlette.types import Scope

from tracehub.runtime.settings import Settings

SOCKET_IO: Final = "/socket.io/"
# A slash at the end makes no difference to who reads the documentation.
SPELLINGS: Final = {"/docs/": "/docs", "/openapi.yaml/": "/openapi.yaml", "/swagger": "/swagger/"}


class Fronts:
    """Where somebody is led to who comes by one of the further ports."""

    def __init__(self, settings: Settings) -> None:
        self._pages = {settings.http_port: "/docs"} if settings.http_port else {}
        self._ws_port = settings.ws_port

    def lead(self, scope: Scope) -> str:
        """The path at which a request is answered: its own nearly always. The scope has it afterwards."""
        path: str = scope.get("path", "")
        if scope["type"] == "websocket":
            if scope["server"][1] == self._ws_port and not path.startswith(SOCKET_IO):
                path = scope["path"] = "/ws"
        elif path == "/":
            path = scope["path"] = self._pages.get(scope["server"][1], path)
        elif path in SPELLINGS:
            path = scope["path"] = SPELLINGS[path]
        return path
