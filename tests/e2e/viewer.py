"""A client of the live events, and of the control route."""

from __future__ import annotations

from typing import Any

import httpx
import socketio

from tests.eventually import eventually

EVENTS = (
    "sim:control",
    "worker:crashed",
    "worker:recovered",
    "ack:sent",
    "replay:completed",
    "metrics:snapshot",
)


class Viewer:
    """Use as `async with Viewer(http) as viewer:`; `heard` keeps every event in its order."""

    def __init__(self, http: str) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.http = httpx.AsyncClient(base_url=http, trust_env=False, timeout=20)
        self._address = http
        self._socket = socketio.AsyncClient(reconnection=False)
        for event in EVENTS:
            self._socket.on(event, self._hears(event))

    def _hears(self, event: str) -> Any:
        async def hear(data: dict[str, Any]) -> None:
            self.heard.append((event, data))

        return hear

    async def __aenter__(self) -> Viewer:
        await self._socket.connect(self._address, transports=["websocket"])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._socket.disconnect()
        await self._socket.wait()
        await self.http.aclose()

    async def hears(self, event: str, timeout: float = 5, **fields: Any) -> dict[str, Any]:
        """Wait for an event with these fields; its whole payload."""

        def found() -> dict[str, Any] | None:
            of_it = [data for name, data in self.heard if name == event]
            assert of_it, f"no {event} was heard"
            hits = [data for data in of_it if fields.items() <= data.items()]
            assert hits, f"of {event} only {of_it[-5:]}"
            return hits[0]

        return await eventually(found, timeout)

    async def control(self, body: dict[str, Any]) -> dict[str, Any]:
        """Start a fault; the answer."""
        answer = await self.http.post("/metrics/control", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def on(self) -> list[str]:
        """The faults that are on."""
        answer = await self.http.get("/metrics/control")
        assert answer.status_code == 200
        return [fault["action"] for fault in answer.json()["faults"]]

    async def ingest(self, service: str, *numbers: int) -> httpx.Response:
        batch = [{"seq": n, "message": f"{service} says {n}"} for n in numbers]
        return await self.http.post("/ingest", json={"service": service, "batch": batch})

    async def ack_till(self, service: str) -> int:
        answer = await self.http.get(f"/ack/{service}")
        return int(answer.json().get("ackTill", -1))
