"""The one place where tests wait: for something to become true, with a bound."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
POLL_S = 0.02


def _pending(last: object, error: AssertionError | None, timeout: float) -> AssertionError:
    reason = f"last error: {error}" if error else f"last value: {last!r}"
    return AssertionError(f"not true within {timeout:g} s; {reason}")


async def eventually(fn: Callable[[], T | Awaitable[T]], timeout: float = 5.0) -> T:
    """The first true value of `fn()`, awaited when it is a coroutine; AssertionError after `timeout` seconds.

    `fn` may also assert: an AssertionError counts as not yet true, and the last one is shown.
    """
    deadline = time.monotonic() + timeout
    while True:
        value: object = None
        error: AssertionError | None = None
        try:
            result = fn()
            value = await result if inspect.isawaitable(result) else result
        except AssertionError as not_yet:
            error = not_yet
        if value:
            return value  # type: ignore[return-value]
        if time.monotonic() > deadline:
            raise _pending(value, error, timeout) from error
        await asyncio.sleep(POLL_S)


def eventually_sync(fn: Callable[[], T], timeout: float = 5.0) -> T:
    """The same for tests without an event loop."""
    deadline = time.monotonic() + timeout
    while True:
        value: T | None = None
        error: AssertionError | None = None
        try:
            value = fn()
        except AssertionError as not_yet:
            error = not_yet
        if value:
            return value
        if time.monotonic() > deadline:
            raise _pending(value, error, timeout) from error
        time.sleep(POLL_S)
