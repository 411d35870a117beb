"""What the sender connects to: the address it checked, whatever the name says later."""

from __future__ import annotations

import asyncio
import socket
import uuid
from typing import Any

import pytest

from apps.worker import sending
from apps.worker.sending import Sender
from tests.integration.receivers import receiving
from tracehub.protocol.webhooks import Attempt
from tracehub.runtime.clock import now_ms
from tracehub.runtime.settings import Settings
from tracehub.storage.postgres.alerts import Taken


async def allowed() -> bool:
    return True


async def denied() -> bool:
    return False


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Names resolve to these addresses, one answer after the other, the last one for ever."""
    asked: list[str] = []
    left = list(answers)

    async def getaddrinfo(_: Any, host: str, port: int, **more: Any) -> list[Any]:
        asked.append(host)
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [
            (socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port))
            for a in addresses
        ]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return asked


async def send(url: str, may: Any) -> Attempt:
    taken = Taken(uuid.uuid4(), uuid.uuid4(), {"type": "webhook", "url": url, "secret": "s"}, b"{}", 1)
    return await Sender(Settings(), may, now_ms).send(taken)


async def test_a_name_of_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as receiver:
        port = receiver.url.rsplit(":", 1)[1]
        asked = resolving(monkeypatch, ["127.0.0.1"])
        attempt = await send(f"http://hooks.example.org:{port}/", denied)
        assert (attempt.error, attempt.final) == (sending.REFUSED, True)
        assert asked == ["hooks.example.org"]
        assert receiver.heard == []


async def test_a_public_address_beside_it_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The public one is not reached from here; what matters is that the other one is not tried instead."""
    async with receiving() as receiver:
        port = receiver.url.rsplit(":", 1)[1]
        resolving(monkeypatch, ["192.0.2.1", "127.0.0.1"])
        monkeypatch.setattr(sending, "is_public", lambda address: address == "192.0.2.1")

        async def unreachable(*_: Any) -> None:
            raise OSError("nothing is there")

        monkeypatch.setattr(asyncio.BaseEventLoop, "sock_connect", unreachable, raising=False)
        attempt = await send(f"http://hooks.example.org:{port}/", denied)
        assert attempt.error is not None
        assert receiver.heard == []


async def test_it_connects_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later answers to the same question are not asked for; Host stays the name."""
    async with receiving() as receiver:
        port = receiver.url.rsplit(":", 1)[1]
        asked = resolving(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
        checked: list[str] = []
        monkeypatch.setattr(sending, "is_public", lambda address: not checked.append(address))
        attempt = await send(f"http://hooks.example.org:{port}/x", denied)
        assert attempt == Attempt(http_status=200)
        assert (asked, checked) == (["hooks.example.org"], ["127.0.0.1"])
        assert receiver.heard[0].headers["host"] == f"hooks.example.org:{port}"


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as receiver, receiving() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        assert (await send(receiver.url + "/x", allowed)).error is None
        assert proxy.heard == []


@pytest.mark.parametrize("url", ["http://127.1/", "http://a b/", "file:///etc/passwd", "http://[::1", ""])
async def test_what_is_no_address_fails_at_once(url: str) -> None:
    attempt = await send(url, allowed)
    assert attempt.final
