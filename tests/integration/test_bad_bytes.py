"""Bytes that break servers: sizes, bombs, half-open connections, and what a machine makes up."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.eventually import eventually
from tests.integration.asking import (
    BODY_MAX,
    BODY_TIMEOUT_S,
    JSON_TYPE,
    MIB,
    STRINGS,
    assert_nothing_stored,
    assert_refused,
    batch,
    connected,
    post,
)
from tests.integration.conftest import Deployment

pytestmark = pytest.mark.usefixtures("well_afterwards")


async def test_body_over_4_mib_is_refused_however_it_comes(client: httpx.AsyncClient, service: str) -> None:
    body = json.dumps(batch(service, 1)).encode()
    exact, over = body.ljust(BODY_MAX), body.ljust(BODY_MAX + 1)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(over), 256 * 1024):
            yield over[at : at + 256 * 1024]

    assert_refused(await post(client, over), 413, "too_large")
    chunked = await client.post("/ingest", content=pieces(), headers=JSON_TYPE)
    assert_refused(chunked, 413, "too_large")
    for encoding, packed in (("gzip", gzip.compress(over)), ("zstd", zstandard.compress(over))):
        answer = await post(client, packed, content_encoding=encoding)
        assert_refused(answer, 413, "too_large")
    await assert_nothing_stored(client, service)
    assert (await post(client, exact)).status_code == 200
    for encoding, packed in (("gzip", gzip.compress(exact)), ("zstd", zstandard.compress(exact))):
        assert (await post(client, packed, content_encoding=encoding)).json()["duplicates"] == 1


async def test_content_length_is_refused_before_the_body(server: Deployment) -> None:
    head = f"POST /ingest HTTP/1.1\r\nhost: x\r\ncontent-length: {10**12}\r\n\r\n"
    async with connected(server.main.port) as (reader, writer):
        writer.write(head.encode() + b"{")
        assert (await asyncio.wait_for(reader.readline(), 1)).split()[1] == b"413"


def gzip_bomb() -> bytes:
    """1 GiB of spaces as one valid gzip member, made of one deflated block that repeats."""
    piece = b" " * MIB
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packer.compress(b"")
    packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    crc = 0
    for _ in range(1024):
        crc = zlib.crc32(piece, crc)
    head = b"\x1f\x8b\x08" + b"\0" * 6 + b"\xff"
    return head + block * 1024 + b"\x03\0" + crc.to_bytes(4, "little") + (1024 * MIB).to_bytes(4, "little")


def zstd_bomb(*, declared: bool) -> bytes:
    """1 GiB of spaces as one frame, with or without its content size."""
    size = 1024 * MIB if declared else -1
    packer = zstandard.ZstdCompressor(level=3).compressobj(size=size)
    piece = b" " * MIB
    return b"".join(packer.compress(piece) for _ in range(1024)) + packer.flush()


def peak_bytes(pid: int) -> int:
    """The most memory a process ever had resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return int(psutil.Process(pid).memory_info().rss)


BOMBS: dict[str, Callable[[], tuple[str, bytes]]] = {
    "gzip": lambda: ("gzip", gzip_bomb()),
    "gzip in members": lambda: ("gzip", gzip.compress(b" " * MIB) * 1024),
    "zstd": lambda: ("zstd", zstd_bomb(declared=True)),
    "zstd without content size": lambda: ("zstd", zstd_bomb(declared=False)),
    "zstd in frames": lambda: ("zstd", zstandard.compress(b" " * MIB) * 1024),
    "zstd with a huge window": lambda: ("zstd", huge_window()),
}


def huge_window() -> bytes:
    """A small frame that asks for a window of 128 MiB."""
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(b" " * 1000) + packer.flush()


@pytest.mark.parametrize("name", BOMBS)
async def test_bombs_are_stopped_in_flat_memory(
    name: str, server: Deployment, client: httpx.AsyncClient
) -> None:
    encoding, bomb = BOMBS[name]()
    assert len(bomb) <= BODY_MAX
    before = peak_bytes(server.main.child.pid)
    for _ in range(3):
        answer = await post(client, bomb, content_encoding=encoding)
        assert_refused(answer, 413, "too_large")
    assert peak_bytes(server.main.child.pid) - before < 40 * MIB


async def test_damaged_compression_is_invalid(client: httpx.AsyncClient, service: str) -> None:
    body = json.dumps(batch(service, *range(1, 200))).encode()
    for encoding, packed in (("gzip", gzip.compress(body)), ("zstd", zstandard.compress(body))):
        flipped = packed[:40] + bytes([packed[40] ^ 0x55, packed[41] ^ 0xFF]) + packed[42:]
        for damaged in (
            packed[:-1],
            packed[: len(packed) // 2],
            packed + b"garbage",
            flipped,
            b"",
            b"x",
            body,
        ):
            answer = await post(client, damaged, content_encoding=encoding)
            assert_refused(answer, 400, "invalid_json")
    await assert_nothing_stored(client, service)


async def test_members_and_frames_may_be_several(client: httpx.AsyncClient, service: str) -> None:
    body = json.dumps(batch(service, 1, 2)).encode()
    for encoding, pack in (("gzip", gzip.compress), ("zstd", zstandard.compress)):
        answer = await post(client, pack(body[:9]) + pack(body[9:]), content_encoding=encoding)
        assert answer.json()["ackTill"] == 2, answer.text


async def test_very_many_empty_members_do_not_hold_up_others(client: httpx.AsyncClient) -> None:
    member = gzip.compress(b"")
    frame = zstandard.compress(b"")
    for encoding, piece in (("gzip", member), ("zstd", frame)):
        body = piece * (BODY_MAX // len(piece))
        answer = await client.post(
            "/ingest", content=body, headers={**JSON_TYPE, "Content-Encoding": encoding}, timeout=3
        )
        assert_refused(answer, 400, "invalid_json")


HEAD = b"POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 60\r\n"


async def test_slow_body_is_given_up(server: Deployment, client: httpx.AsyncClient, service: str) -> None:
    """A byte now and then does not keep a request alive."""
    async with connected(server.main.port) as (reader, writer):
        writer.write(HEAD.replace(b"60", b"100000") + b"\r\n" + f'{{"service":"{service}"'.encode())
        told = asyncio.ensure_future(reader.read())

        def drip() -> bool:
            if not told.done():
                writer.write(b" ")
            return told.done()

        await eventually(drip, BODY_TIMEOUT_S + 3)
        answer = await told
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == b"408", answer
    assert json.loads(body)["error"]["code"] == "slow_body"
    assert b"connection: close" in head.lower()
    await assert_nothing_stored(client, service)


async def test_half_open_connections_do_not_hold_up_good_ones(
    server: Deployment, client: httpx.AsyncClient, service: str
) -> None:
    """Hundreds that send nothing, half of their headers, or no body; all are closed within 20 s."""
    openings = (b"", b"POST /ing", HEAD, HEAD + b"\r\n", HEAD + b'\r\n{"service":', b"\r\n", b"\x16\x03\x01")
    connections = [
        await asyncio.open_connection("127.0.0.1", server.main.port) for _ in openings for _ in range(60)
    ]
    for (_, writer), opening in zip(connections, itertools.cycle(openings), strict=False):
        writer.write(opening)
    for number in range(1, 101):
        answer = await post(client, batch(service, number))
        assert (answer.status_code, answer.json()["ackTill"]) == (200, number)
    ends = [asyncio.ensure_future(reader.read()) for reader, _ in connections]
    await eventually(lambda: all(end.done() for end in ends), 20)
    answers = [b"" if end.exception() else end.result() for end in ends]
    assert sum(a.startswith(b"HTTP/1.1 408") for a in answers) == 120
    for _, writer in connections:
        writer.close()


async def test_bytes_after_an_answer_keep_no_connection(server: Deployment) -> None:
    """A stray line, or a body that nobody reads, byte by byte: closed in time, however alive it looks."""
    openings = (
        b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /live HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n",
        HEAD.replace(b"60", b"99999999") + b"\r\n",
        HEAD.replace(b"application/json", b"application/xml") + b"\r\n",
    )
    connections = [await asyncio.open_connection("127.0.0.1", server.main.port) for _ in openings]
    for (reader, writer), opening in zip(connections, openings, strict=True):
        writer.write(opening)
        assert await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\r\n")
    ends = [asyncio.ensure_future(reader.read()) for reader, _ in connections]

    def drip() -> bool:
        for (_, writer), end in zip(connections[1:], ends[1:], strict=True):
            if not end.done():
                writer.write(b" ")
        return all(end.done() for end in ends)

    await eventually(drip, 20)
    for (_, writer), end in zip(connections, ends, strict=True):
        end.exception()
        writer.close()


async def test_crowd_is_told_in_our_words(deploy: Callable[..., Deployment]) -> None:
    """Beyond connections_max: 503 unavailable with Retry-After, as JSON; well again when they leave."""
    crowded = deploy(connections_max=5)
    crowded.both()
    async with httpx.AsyncClient(base_url=crowded.main.url) as client:
        others = [await asyncio.open_connection("127.0.0.1", crowded.main.port) for _ in range(6)]

        async def is_refused() -> bool:
            answer = await post(client, batch("crowd", 1))
            if answer.status_code == 200:
                return False
            assert_refused(answer, 503, "unavailable")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["connection"] == "close"
            return True

        await eventually(is_refused)
        for _, writer in others:
            writer.close()

        async def is_well() -> bool:
            return (await post(client, batch("crowd", 2))).status_code == 200

        await eventually(is_well)


async def test_huge_headers_are_cut_off(server: Deployment, client: httpx.AsyncClient) -> None:
    line = b"x-filler: " + b"y" * 1000 + b"\r\n"
    for opening in (b"GET /health HTTP/1.1\r\n" + line * 200, b"GET /" + b"a" * 200_000, b"G" * 200_000):
        async with connected(server.main.port) as (reader, writer):
            writer.write(opening)
            try:
                told = await asyncio.wait_for(reader.read(), 5)
            except ConnectionResetError:
                continue  # it did not even read all of it
            assert told.split()[1:2] in ([b"431"], [b"400"]), told


async def test_endless_trailers_and_chunk_extensions_are_cut_off(server: Deployment) -> None:
    """What is neither header nor body is bounded, too."""
    head = b"GET /live HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    for opening, more in (
        (b"2\r\n{}\r\n0\r\n", b"x-trailer: " + b"y" * 4_000 + b"\r\n"),
        (b"2\r\n{}\r\n0\r\nx-trailer: ", b"y" * 4_000),
        (b"2;", b"extension=" * 400),
    ):
        async with connected(server.main.port) as (reader, writer):
            writer.write(head + opening)

            async def is_closed(reader: Any = reader, writer: Any = writer, more: bytes = more) -> bool:
                for _ in range(50):
                    writer.write(more)
                try:
                    await writer.drain()
                except OSError:
                    return True
                return bool(reader.at_eof())

            drained = asyncio.ensure_future(reader.read())
            await eventually(is_closed, 5)
            drained.cancel()


async def test_client_that_leaves_early_is_no_news(
    server: Deployment, client: httpx.AsyncClient, service: str
) -> None:
    body = json.dumps(batch(service, 1)).encode()
    for sent in (HEAD + b"\r\n{", HEAD.replace(b"60", str(len(body)).encode()) + b"\r\n" + body):
        async with connected(server.main.port) as (_, writer):
            writer.write(sent)
            await writer.drain()

    async def is_stored() -> bool:
        return (await client.get(f"/ack/{service}")).json().get("ackTill") == 1

    await eventually(is_stored)


async def test_nonsense_instead_of_http_is_refused(server: Deployment) -> None:
    for sent in (
        b"\r\n\r\n", b"\0" * 100, b"GET / HTTP/9.9\r\n\r\n", b"POST /ingest HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST /ingest HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST /ingest HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ):  # fmt: skip
        async with connected(server.main.port) as (reader, writer):
            writer.write(sent)
            writer.write_eof()
            told = await asyncio.wait_for(reader.read(), 5)
            assert told[:12] in (b"", b"HTTP/1.1 400"), told


CODES = {
    "invalid_json", "invalid_field", "not_found", "unknown_service", "method_not_allowed", "slow_body",
    "unsupported_encoding", "unsupported_type", "too_large", "overloaded", "too_many_gaps",
}  # fmt: skip


TEXTS = st.text(st.characters(), max_size=12) | st.sampled_from(["\0", "info", "2026-01-01T00:00:00Z", ""])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


ENTRIES = st.fixed_dictionaries(
    {"seq": st.integers(1, 40) | VALUES},
    optional={
        **dict.fromkeys(STRINGS, TEXTS | VALUES),
        "ts": st.integers() | VALUES,
        "attrs": VALUES,
        "zz": VALUES,
    },
)


BODIES = st.fixed_dictionaries(
    {"service": st.sampled_from(["garbage", "", "a b"])},
    optional={
        "batch": st.lists(ENTRIES | VALUES, max_size=4) | VALUES,
        "batchId": TEXTS | VALUES,
        "epoch": st.integers(0, 3) | VALUES,
        "start": st.integers(0, 40) | VALUES,
        "lost": st.lists(st.tuples(st.integers(-1, 9), st.integers(-1, 9), TEXTS) | VALUES, max_size=3)
        | VALUES,
        "other": VALUES,
    },
)


MACHINE = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), database=None)


HEADERS = st.text("ab:/[]@%?#.,;=127", max_size=12) | st.sampled_from(
    [
        "localhost",
        "[::1]",
        "[::1",
        "http://localhost",
        "null",
        "application/json",
        "http://[",
        "127.0.0.1:99999999",
    ]
)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.fixture(scope="module")
def speaking(server: Deployment) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        yield client


def assert_answered(answer: httpx.Response) -> None:
    assert answer.status_code in (200, 400, 413, 415, 429), answer.text
    if answer.status_code != 200:
        assert answer.json()["error"]["code"] in CODES
    else:
        told = answer.json()
        assert told["ackTill"] <= told["highestSeen"]
        assert told["missingCount"] >= len(told["missing"])


@MACHINE
@given(body=BODIES)
def test_structured_garbage_is_answered(speaking: httpx.Client, body: Any) -> None:
    assert_answered(speaking.post("/ingest", content=as_json(body), headers=JSON_TYPE))


@MACHINE
@given(
    body=st.binary(max_size=200), encoding=st.sampled_from(["identity", "gzip", "zstd"]), packed=st.booleans()
)
def test_bytes_of_any_kind_are_answered(
    speaking: httpx.Client, body: bytes, encoding: str, packed: bool
) -> None:
    if packed and encoding != "identity":
        body = gzip.compress(body) if encoding == "gzip" else zstandard.compress(body)
    headers = {**JSON_TYPE, "Content-Encoding": encoding}
    assert_answered(speaking.post("/ingest", content=body, headers=headers))


@MACHINE
@given(at=st.integers(0, 400), new=st.binary(max_size=3), cut=st.integers(0, 5))
def test_damaged_good_bodies_are_answered(speaking: httpx.Client, at: int, new: bytes, cut: int) -> None:
    good = as_json(
        batch("garbage", 1, 2, 3, epoch=1, start=1, batchId="b", lost=[[1, 1, "x"]])
        | {
            "batch": [
                {
                    "seq": 9,
                    "ts": "2026-01-01T00:00:00Z",
                    "attrs": {"a": [1.5, "é"]},
                    "message": "\ud83d\ude00",
                }
            ]
        }
    )
    at %= len(good)
    answer = speaking.post("/ingest", content=good[:at] + new + good[at + cut :], headers=JSON_TYPE)
    assert_answered(answer)


@MACHINE
@given(given=st.tuples(HEADERS, HEADERS, HEADERS), body=BODIES | VALUES)
def test_odd_headers_are_answered(speaking: httpx.Client, given: tuple[str, str, str], body: Any) -> None:
    """On the routes that change something, too."""
    headers = dict(zip(("host", "origin", "content-type"), given, strict=True))
    for path in ("/ingest", "/replay", "/replay/1/abandon", "/dead-letters/1/retry"):
        answer = speaking.post(path, content=as_json(body), headers=headers)
        assert answer.status_code < 500, answer.text
