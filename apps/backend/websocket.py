"""uvicorn's WebSocket protocol with the contract's patience (logstream.md §6): a ping every PING_S, and whoever sent
nothing at all for SILENT_S, not even the answer to a ping, is gone (1001).

uvicorn by itself gives up at the first ping that is not answered in time (1011): a peer whose machine slept, or whose
network stood still for half a minute, would lose its connection though it is there.
"""

from __future__ import annotations

from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

PING_S: Final = 20.0
SILENT_S: Final = 60.0
GONE: Final = 1001


class PatientProtocol(WebSocketsSansIOProtocol):
    """`ping_interval` is uvicorn's setting; no pong is waited for."""

    silent_s = SILENT_S

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.ping_timeout = None  # then the next ping follows whatever came of the last
        self._heard_s = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._heard_s = self.loop.time()
        super().data_received(data)

    def send_keepalive_ping(self) -> None:
        """See uvicorn; called every `ping_interval`."""
        if self.loop.time() - self._heard_s < self.silent_s:
            super().send_keepalive_ping()
        elif not self.transport.is_closing():
            self.stop_keepalive()
            self.conn.fail(GONE, "nothing came any more")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.transport.close()
