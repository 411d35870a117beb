"""Whether the whole is ready: `GET /health` says `"status": "ok"`."""

from __future__ import annotations

import asyncio
import json

TIMEOUT_S = 3.0
POLL_S = 0.1
ANSWER_BYTES_MAX = 64 * 1024


async def wait_until_ready(host: str, port: int) -> None:
    """Return at the first good answer; the caller sets the bound."""
    while True:
        if await is_healthy(host, port):
            return
        await asyncio.sleep(POLL_S)


async def is_healthy(host: str, port: int) -> bool:
    """One question, at most `TIMEOUT_S`; any trouble is a no."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            body = await _get_health(host.strip("[]"), port)
        answer = json.loads(body)
    except (OSError, TimeoutError, ValueError):
        return False
    return isinstance(answer, dict) and answer.get("status") == "ok"


async def _get_health(host: str, port: int) -> bytes:
    """The body of the answer: HTTP/1.0, so that the end of the connection is its end."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET /health HTTP/1.0\r\nHost: localhost:{port}\r\n\r\n".encode())
        answer = b""
        while len(answer) < ANSWER_BYTES_MAX and (part := await reader.read(ANSWER_BYTES_MAX)):
            answer += part
    finally:
        writer.close()
    return answer.partition(b"\r\n\r\n")[2]
