"""Turns what redis-py raises into our own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions

from tracehub.protocol.errors import Overloaded, Transient


@contextmanager
def translated() -> Iterator[None]:
    """Within this block only Transient and Overloaded (out of memory) come out of the driver."""
    try:
        yield
    except exceptions.ResponseError as error:
        if isinstance(error, exceptions.OutOfMemoryError) or "OOM" in str(error):
            raise Overloaded("the queue's Redis is out of memory") from error
        raise Transient("Redis refuses the command") from error
    except (exceptions.RedisError, OSError, TimeoutError) as error:
        raise Transient(f"Redis is not reachable ({type(error).__name__})") from error
