"""The HTTP client for threads: what a close leaves behind."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tracehub_sdk.transport import HttpTransport
from tracehub_sdk.wire import Endpoint, Request

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
REQUEST = Request("GET", "/ack/shop", b"")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(10)
        yield made


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[http.client.HTTPConnection]:
    """Every connection that is made."""
    connections: list[http.client.HTTPConnection] = []

    class Seen(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            connections.append(self)

    monkeypatch.setattr(http.client, "HTTPConnection", Seen)
    return connections


def transport(listener: socket.socket) -> HttpTransport:
    host, port = listener.getsockname()
    return HttpTransport(Endpoint.parse(f"http://{host}:{port}"))


def test_close_ends_a_running_exchange(
    listener: socket.socket, made: list[http.client.HTTPConnection]
) -> None:
    """Who waits for an answer waits no longer, and its socket is closed, not left to the collector."""
    subject = transport(listener)
    answers: list[object] = ["never ended"]
    thread = threading.Thread(target=lambda: answers.append(subject.exchange(REQUEST, 30)))
    thread.start()
    server, _ = listener.accept()
    with server:
        assert server.recv(65_536)
        begun = time.monotonic()
        subject.close()
        thread.join(10)
    assert time.monotonic() - begun < 5
    assert answers[1:] == [None]
    assert [connection.sock for connection in made] == [None]


def test_exchange_after_close_sends_nothing(
    listener: socket.socket, made: list[http.client.HTTPConnection]
) -> None:
    """A job that was still waiting finds the transport closed."""
    subject = transport(listener)
    subject.close()
    assert subject.exchange(REQUEST, 5) is None
    assert made == []


def test_idle_connection_is_used_again_and_closed(
    listener: socket.socket, made: list[http.client.HTTPConnection]
) -> None:
    """Two exchanges share a connection; close ends it."""
    subject = transport(listener)

    def serve() -> None:
        server, _ = listener.accept()
        with server:
            for _ in range(2):
                server.recv(65_536)
                server.sendall(ANSWER)
            server.recv(65_536)

    thread = threading.Thread(target=serve)
    thread.start()
    for _ in range(2):
        answer = subject.exchange(REQUEST, 5)
        assert answer is not None
        assert answer.status == 200
    assert len(made) == 1
    subject.close()
    thread.join(10)
    assert made[0].sock is None
