"""What the plain request of /ingest is answered with, however it comes: split, in a row, by old clients, by those who
go; and that nobody can tell which way it went."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable

import httpx
import pytest

from tests.eventually import eventually
from tests.integration.asking import batch, connected
from tests.integration.conftest import Deployment

PLAIN = ("content-type: application/json",)


def asked(body: object, *headers: str, version: str = "1.1", path: str = "/ingest") -> bytes:
    """One request as it is sent."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = (f"POST {path} HTTP/{version}", "host: x", *headers, f"content-length: {len(text)}", "", "")
    return "\r\n".join(lines).encode() + text


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """The next answer on a connection: status, headers, body."""
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


async def ends(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(5):
        return await reader.read() == b""


async def test_both_ways_answer_alike(server: Deployment) -> None:
    """A parameter makes the same request take the other way."""
    seen = []
    async with connected(server.main.port) as (reader, writer):
        for number, path in ((1, "/ingest"), (2, "/ingest?acks=stored")):
            writer.write(asked(batch("alike", number), *PLAIN, "X-Request-ID: mine", path=path))
            seen.append(await answer(reader))
    (quick, quick_headers, quick_body), (status, headers, body) = seen
    assert (quick, status) == (200, 200)
    assert quick_headers == headers | {"date": quick_headers["date"]}
    assert headers["x-request-id"] == "mine"
    first, second = json.loads(quick_body), json.loads(body)
    assert (first["ackTill"], second["ackTill"]) == (1, 2)
    changed = {"batchId", "ackTill", "highestSeen"}
    assert {k: v for k, v in first.items() if k not in changed} == {
        k: v for k, v in second.items() if k not in changed
    }


@pytest.mark.parametrize(
    ("given", "echoed"), [("a" * 128, True), ("a" * 129, False), ("ä", False), ("", False), ("a b", False)]
)
async def test_request_ids(server: Deployment, given: str, echoed: bool) -> None:
    async with connected(server.main.port) as (reader, writer):
        writer.write(asked(batch("ids", 1), *PLAIN, f"x-request-id: {given}"))
        told = (await answer(reader))[1]["x-request-id"]
    assert (told == given) is echoed
    assert told.isascii()
    assert told.isprintable()
    assert told


@pytest.mark.parametrize("path", ["/ingest", "/ingest?acks=stored"])
async def test_the_first_of_two_ids_counts(server: Deployment, path: str) -> None:
    async with connected(server.main.port) as (reader, writer):
        for first, told in (("one", "one"), ("", None)):
            ids = (f"x-request-id: {first}", "x-request-id: two")
            writer.write(asked(batch("two-ids", 1), *PLAIN, *ids, path=path))
            seen = (await answer(reader))[1]["x-request-id"]
            assert seen == told if told else seen not in ("", "two")


async def test_requests_in_a_row_are_answered_in_their_order(server: Deployment) -> None:
    """Plain ones, others, refused ones: all sent before the first answer was read."""
    requests = [
        asked(batch("row", 1), *PLAIN),
        asked(batch("row", 2), *PLAIN, path="/ingest?acks=stored"),
        b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n",
        asked(batch("row", 3), *PLAIN),
        asked(b"{nonsense", *PLAIN),
        asked(batch("row", 4), *PLAIN),
        asked(batch("row", 5), "content-type: text/plain"),
        asked(batch("row", 5), *PLAIN),
    ]
    async with connected(server.main.port) as (reader, writer):
        writer.write(b"".join(requests))
        seen = [await answer(reader) for _ in requests]
    assert [status for status, _, _ in seen] == [200, 200, 200, 200, 400, 200, 415, 200]
    tills = [json.loads(body)["ackTill"] for status, _, body in seen if status == 200 and b"ackTill" in body]
    assert tills == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("at", [10, 60, -30, -1])
async def test_a_request_in_two_pieces(server: Deployment, at: int) -> None:
    request = asked(batch(f"pieces{at}", 1), *PLAIN)
    async with connected(server.main.port) as (reader, writer):
        for last in (False, True):
            writer.write(request[:at])
            await writer.drain()
            await asyncio.to_thread(
                httpx.get, server.url + "/live", trust_env=False
            )  # the first piece is there
            writer.write(request[at:])
            status, _, body = await answer(reader)
            assert status == 200
            assert json.loads(body)["duplicates"] == int(last)


async def test_in_chunks(server: Deployment) -> None:
    text = json.dumps(batch("chunks", 1)).encode()
    head = b"POST /ingest HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    whole = b"%s%x\r\n%s\r\n0\r\n\r\n" % (head, len(text), text)
    async with connected(server.main.port) as (reader, writer):
        writer.write(whole + whole)
        assert [(await answer(reader))[0] for _ in range(2)] == [200, 200]
        writer.write(head + b"5\r\n{bad}\r\nno chunk\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.readline()).split()[1] == b"400"


@pytest.mark.parametrize(("version", "headers"), [("1.1", ("connection: close",)), ("1.0", ())])
async def test_who_asks_for_it_is_closed(server: Deployment, version: str, headers: tuple[str, ...]) -> None:
    async with connected(server.main.port) as (reader, writer):
        writer.write(asked(batch("closing", 1), *PLAIN, *headers, version=version))
        status, told, _ = await answer(reader)
        assert (status, told["connection"]) == (200, "close")
        assert await ends(reader)


async def test_keeping_alive_and_expecting(server: Deployment) -> None:
    async with connected(server.main.port) as (reader, writer):
        request = asked(batch("expecting", 1), *PLAIN, "expect: 100-continue")
        head, body = request[: request.index(b"\r\n\r\n") + 4], request[request.index(b"\r\n\r\n") + 4 :]
        writer.write(head)
        assert b"100" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.write(body)
        assert (await answer(reader))[0] == 200
        writer.write(asked(batch("expecting", 2), *PLAIN))
        status, told, _ = await answer(reader)
        assert (status, told.get("connection")) == (200, None)


async def test_who_has_gone_is_stored_all_the_same(deploy: Callable[..., Deployment]) -> None:
    """And a server that is told to stop answers those who wait, first."""
    deployment = deploy(ack_timeout_s=20)
    url, port = deployment.backend().url, deployment.main.port
    async with connected(port) as (_, gone), connected(port) as (reader, writer):
        gone.write(asked(batch("gone", 1), *PLAIN))
        writer.write(asked(batch("waits", 1), *PLAIN))

        def both_wait() -> bool:
            depth = httpx.get(url + "/metrics/snapshot", trust_env=False).json()["queue"]["logs"]["depth"]
            return bool(depth == 2)

        await eventually(lambda: asyncio.to_thread(both_wait), 10)
        gone.transport.abort()
        os.kill(deployment.main.child.pid, signal.SIGTERM)
        deployment.worker()
        status, told, body = await answer(reader)
        assert (status, json.loads(body)["ackTill"], told["connection"]) == (200, 1, "close")
        assert await ends(reader)
    await eventually(lambda: not deployment.main.is_running(), 10)
    deployment.parts.remove(deployment.main)
    again = await asyncio.to_thread(httpx.get, deployment.backend().url + "/ack/gone", trust_env=False)
    assert again.json()["ackTill"] == 1


async def test_they_are_counted(server: Deployment) -> None:
    def count() -> float:
        text = httpx.get(server.url + "/metrics", trust_env=False).text
        name = 'tracehub_requests_total{route="ingest",status="200"}'
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)), 0.0)

    before = await asyncio.to_thread(count)
    async with connected(server.main.port) as (reader, writer):
        for path in ("/ingest", "/ingest?acks=stored"):
            writer.write(asked(batch("counted", 1), *PLAIN, path=path))
            await answer(reader)
    assert await asyncio.to_thread(count) >= before + 2
