"""A small HTTP/1.1 client with kept-alive connections, for threads and for asyncio; no dependency.

`exchange` answers None when there was no complete answer by the deadline: refused, broken or too slow. A
request that failed on a connection which had been idle is repeated once on a new one, because servers close
idle connections at any moment; sending a batch twice is harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import threading
import time
from typing import Protocol

from tracehub_sdk.wire import Endpoint, Request, Response

CONNECT_TIMEOUT_S = 3.0
ANSWER_BYTES_MAX = 8 * 1024 * 1024
_BROKEN = (OSError, http.client.HTTPException, ValueError)


class Transport(Protocol):
    """What a Producer needs; wrap it to watch or disturb its sending."""

    def exchange(self, request: Request, timeout_s: float) -> Response | None:
        """Send and wait for the answer; None when there is none. Never raises."""

    def close(self) -> None:
        """Close the connections."""


class AsyncTransport(Protocol):
    """The same for asyncio."""

    async def exchange(self, request: Request, timeout_s: float) -> Response | None:
        """Send and wait for the answer; None when there is none."""

    async def close(self) -> None:
        """Close the connections."""


class HttpTransport:
    """For threads: one connection per thread. After `close` every exchange, also a running one, ends in None."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._local = threading.local()
        self._idle: set[http.client.HTTPConnection] = set()
        self._busy: set[http.client.HTTPConnection] = set()
        self._closed = False
        self._lock = threading.Lock()

    def exchange(self, request: Request, timeout_s: float) -> Response | None:
        """See `Transport`."""
        deadline = time.monotonic() + timeout_s
        kept = getattr(self._local, "connection", None)
        while not self._closed:
            connection = kept or self._connect()
            try:
                return self._once(connection, request, deadline)
            except _BROKEN:
                if kept is None or time.monotonic() >= deadline:
                    return None
                kept = None
        return None

    def _connect(self) -> http.client.HTTPConnection:
        end = self._endpoint
        made: http.client.HTTPConnection
        if end.scheme == "https":
            context = ssl.create_default_context()
            made = http.client.HTTPSConnection(end.host, end.port, timeout=CONNECT_TIMEOUT_S, context=context)
        else:
            made = http.client.HTTPConnection(end.host, end.port, timeout=CONNECT_TIMEOUT_S)
        return made

    def _once(self, connection: http.client.HTTPConnection, request: Request, deadline: float) -> Response:
        end = self._endpoint
        keep = False
        with self._lock:
            self._idle.discard(connection)
            self._busy.add(connection)
        try:
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(max(0.01, deadline - time.monotonic()))
            path, body = end.path + request.path, request.body or None
            connection.request(request.method, path, body, _headers(end, request))
            answer = connection.getresponse()
            content = answer.read(ANSWER_BYTES_MAX)
            headers = {name.lower(): value for name, value in answer.getheaders()}
            keep = answer.isclosed() and not answer.will_close
            return Response(answer.status, headers, content)
        finally:
            self._lay_down(connection, keep=keep)

    def _lay_down(self, connection: http.client.HTTPConnection, *, keep: bool) -> None:
        with self._lock:
            self._busy.discard(connection)
            keep = keep and not self._closed
            if keep:
                self._idle.add(connection)
        self._local.connection = connection if keep else None
        if not keep:
            connection.close()

    def close(self) -> None:
        """Close the idle connections, and wake the threads that wait for an answer: each closes its own."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, set()
            for connection in self._busy:
                if connection.sock is not None:
                    with contextlib.suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)
        for connection in idle:
            connection.close()


def _headers(end: Endpoint, request: Request) -> dict[str, str]:
    return {**end.headers, **({"Content-Type": "application/json"} if request.body else {})}


class AsyncHttpTransport:
    """For asyncio: as many connections as requests are out, kept for the next."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def exchange(self, request: Request, timeout_s: float) -> Response | None:
        """See `AsyncTransport`. Cancelled, the request may or may not have arrived."""
        with contextlib.suppress(*_BROKEN, EOFError, asyncio.LimitOverrunError):
            async with asyncio.timeout(timeout_s):
                if self._idle:
                    try:
                        return await self._once(self._idle.pop(), request)
                    except (OSError, EOFError):
                        pass  # the server closed it while it was idle
                return await self._once(await self._connect(), request)
        return None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        end = self._endpoint
        context = ssl.create_default_context() if end.scheme == "https" else None
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await asyncio.open_connection(end.host, end.port, ssl=context)

    async def _once(
        self, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: Request
    ) -> Response:
        reader, writer = connection
        done = False
        try:
            writer.write(self._head(request) + request.body)
            await writer.drain()
            status, headers = await _read_head(reader)
            body = await _read_body(reader, headers)
            done = headers.get("connection", "").lower() != "close"
            return Response(status, headers, body)
        finally:
            if done:
                self._idle.append(connection)
            else:
                writer.close()

    def _head(self, request: Request) -> bytes:
        end = self._endpoint
        host = f"[{end.host}]" if ":" in end.host else end.host
        lines = [f"{request.method} {end.path}{request.path} HTTP/1.1", f"Host: {host}:{end.port}"]
        lines += [f"{name}: {value}" for name, value in _headers(end, request).items()]
        lines += [f"Content-Length: {len(request.body)}", "", ""]
        return "\r\n".join(lines).encode("latin-1")

    async def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            _, writer = self._idle.pop()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    status_line = (await reader.readuntil(b"\n")).split()
    headers: dict[str, str] = {}
    while (line := (await reader.readuntil(b"\n")).strip()) and len(headers) < 100:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(status_line[1]), headers


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = b""
        while size := int((await reader.readuntil(b"\n")).split(b";")[0], 16):
            if len(body) + size > ANSWER_BYTES_MAX:
                raise ValueError("the answer is too long")
            body += await reader.readexactly(size)
            await reader.readuntil(b"\n")
        while (await reader.readuntil(b"\n")).strip():
            pass
        return body
    if "content-length" in headers:
        return await reader.readexactly(min(ANSWER_BYTES_MAX, int(headers["content-length"])))
    headers["connection"] = "close"
    return await reader.read(ANSWER_BYTES_MAX)
