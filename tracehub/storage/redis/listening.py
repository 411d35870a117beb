"""One pub/sub connection that comes back by itself, and what to do with each message."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = structlog.get_logger()

Handler = Callable[[bytes], Awaitable[None] | None]
RECONNECT_S = 0.2


async def listen(
    redis: Redis, handlers: Mapping[str, Handler], on_connect: Callable[[], None] | None = None
) -> None:
    """Subscribe and hand on messages until cancelled.

    `on_connect` runs after every (re)subscription: what was said in between was not heard. A handler that
    fails is logged; it never ends the listening.
    """
    while True:
        pubsub = redis.pubsub(ignore_subscribe_messages=False)
        try:
            await pubsub.subscribe(*handlers)
            confirmed = 0
            async for message in pubsub.listen():
                if message["type"] == "subscribe":
                    confirmed += 1
                    if confirmed == len(handlers) and on_connect:
                        on_connect()
                elif message["type"] == "message":
                    await _handle(handlers[message["channel"].decode()], message["data"])
        except (RedisError, OSError) as error:
            log.warning("listening.interrupted", error=type(error).__name__)
        finally:
            await _close(pubsub)
        await asyncio.sleep(RECONNECT_S)


async def _handle(handler: Handler, data: bytes) -> None:
    try:
        result = handler(data)
        if result is not None:
            await result
    except Exception as error:
        log.exception("listening.handler_failed", error=type(error).__name__)


async def _close(pubsub: object) -> None:
    with contextlib.suppress(RedisError, OSError):
        await pubsub.aclose()  # type: ignore[attr-defined]
