"""Request bodies: capped while they stream in and while they inflate, and given up when they are slow.

Guarantee: at most BODY_BYTES_MAX raw bytes and as many inflated ones are ever held, whatever the headers say.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import zlib
from collections.abc import Callable
from typing import TypeVar

import zstandard
from starlette.requests import Request
from starlette.types import Receive, Scope

from apps.backend.protocol import WHOLE
from tracehub.protocol.errors import InvalidJSON, SlowBody, TooLarge, UnsupportedEncoding, UnsupportedType
from tracehub.protocol.limits import BODY_BYTES_MAX

T = TypeVar("T")

READ_ASIDE_BYTES = 256 * 1024
GZIP_WINDOW = 31  # zlib: the largest window, gzip framing
GZIP_MEMBERS_MAX = 1_024
GZIP_PIECE_BYTES = 64 * 1024  # what is left of a piece is copied at each member's end, so pieces are small


async def read_body(request: Request, timeout_s: float, most: int = BODY_BYTES_MAX) -> bytes:
    """The inflated body. Raises TooLarge, SlowBody, UnsupportedEncoding, InvalidJSON (damaged)."""
    encoding = header(request.scope, b"content-encoding").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip", "zstd"):
        raise UnsupportedEncoding
    length = header(request.scope, b"content-length")
    if length.isdigit() and int(length) > most:
        raise TooLarge(f"the body is larger than {most} bytes")
    # The clock costs as much as reading a small body, and most bodies are here already.
    wait = contextlib.nullcontext() if WHOLE in request.scope else asyncio.timeout(timeout_s)
    try:
        async with wait:
            return inflate(await _receive(request.receive, most), encoding, most)
    except TimeoutError:
        raise SlowBody from None


def header(scope: Scope, name: bytes) -> str:
    """The first header of this name (lower case), or nothing. Starlette reads all of them to find one."""
    for key, value in scope["headers"]:
        if key == name:
            found: str = value.decode("latin-1")
            return found
    return ""


async def _receive(receive: Receive, most: int) -> bytes:
    """The raw body, by hand: Starlette's stream costs as much again as the common body of one message."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidJSON("the connection ended before the body did")
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise TooLarge(f"the body is larger than {most} bytes")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def inflate(data: bytes, encoding: str, most: int) -> bytes:
    """Undo the encoding; stops at `most` bytes."""
    if encoding in ("identity", ""):
        return data
    inflated = _unzstd(data, most) if encoding == "zstd" else _gunzip(data, most)
    if len(inflated) > most:
        raise TooLarge(f"the body inflates to more than {most} bytes")
    return inflated


def _gunzip(data: bytes, most: int) -> bytes:
    inflated = bytearray()
    members = 1
    member = zlib.decompressobj(GZIP_WINDOW)
    try:
        for at in range(0, len(data), GZIP_PIECE_BYTES):
            piece = data[at : at + GZIP_PIECE_BYTES]
            while piece:
                if member.eof:  # a gzip file may have several members
                    members += 1
                    if members > GZIP_MEMBERS_MAX:
                        raise InvalidJSON(f"a gzip body has at most {GZIP_MEMBERS_MAX} members")
                    member = zlib.decompressobj(GZIP_WINDOW)
                inflated += member.decompress(piece, most + 1 - len(inflated))
                if len(inflated) > most:
                    return bytes(inflated)
                piece = member.unused_data or member.unconsumed_tail
    except zlib.error:
        raise InvalidJSON("the body is not valid gzip") from None
    if not member.eof:
        raise InvalidJSON("the gzip body is cut off")
    return bytes(inflated)


def _unzstd(data: bytes, most: int) -> bytes:
    try:
        frame = zstandard.get_frame_parameters(data)
        declared = frame.content_size
        if declared not in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR) and declared > most:
            raise TooLarge(f"the body inflates to more than {most} bytes")
        if frame.window_size > 2 * most:
            raise TooLarge("the zstd window is too large")
        reader = zstandard.ZstdDecompressor(max_window_size=2 * most).stream_reader(
            io.BytesIO(data), read_across_frames=True
        )
        return bytes(reader.read(most + 1))
    except zstandard.ZstdError:
        raise InvalidJSON("the body is not valid zstd") from None


async def aside(read: Callable[[bytes], T], body: bytes) -> T:
    """What `read` makes of a body; of a large one in a thread, for others wait for their answers meanwhile."""
    return await asyncio.to_thread(read, body) if len(body) > READ_ASIDE_BYTES else read(body)


def require_json(request: Request, *, strict: bool = False) -> None:
    """Refuse other content types. `strict`: a missing one, too (routes that a web page must not reach)."""
    kind = header(request.scope, b"content-type").split(";")[0].strip().lower()
    if kind == "application/json" or (not kind and not strict):
        return
    raise UnsupportedType
