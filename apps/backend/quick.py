"""Answers to the most frequent request without the layers between a server and a view: the heart of 3,000 small
requests a second is 0.1 ms of Python each, and a task, a scope, messages and headers one by one cost as much again.

A Quick is asked by the protocol (protocol.py) when a request of its target has arrived whole and nothing else is
under way on the connection. It declines whatever is out of the ordinary, before it has done anything; that goes the
long way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from starlette.types import Scope

QUICK = "tracehub.quick"  # where the lifespan's state has it

# Status, header lines, body. To be called once, later.
Answer = Callable[[int, bytes, bytes], None]


class Quick(Protocol):
    """`target` is the path of its POST requests, and all of it: parameters are out of the ordinary."""

    target: bytes

    def __call__(self, scope: Scope, body: bytes, answer: Answer) -> bool:
        """True when `answer` will be called; False when nothing was done. The scope has method and headers only."""
