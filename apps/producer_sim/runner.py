"""Run a plan in real time through the SDK, until told to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

from apps.producer_sim.network import UnrulyTransport
from apps.producer_sim.plan import Step, plan
from tracehub.runtime.clock import monotonic_s
from tracehub_sdk import Producer
from tracehub_sdk.transport import HttpTransport
from tracehub_sdk.wire import Endpoint

CATCH_UP_S = 1.0  # after a longer stand-still the plan goes on from now, instead of bursting
APPENDS_MAX = 500
PAUSE_S = 0.25
DRAIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """What to run and where to. `rate`: mean entries per second; `seconds` 0: until stopped."""

    service: str
    endpoint: str
    redis_url: str
    rate: float = 20.0
    seed: int = 1
    seconds: float = 0.0
    token: str = ""


def due_steps(steps: Iterator[Step], first: Step, till: float) -> tuple[list[Step], Step]:
    """The steps up to time `till` (at most APPENDS_MAX), and the one that comes next."""
    due: list[Step] = []
    while first.at <= till and len(due) < APPENDS_MAX:
        due.append(first)
        first = next(steps)
    return due, first


def run(options: Options, stop: threading.Event) -> bool:
    """Produce until `stop` is set; then drain. False when something is left in the buffer."""
    inner = HttpTransport(Endpoint.parse(options.endpoint, token=options.token))
    transport = UnrulyTransport(inner, options.seed)
    producer = Producer(
        options.service, options.redis_url, options.endpoint, token=options.token, transport=transport
    )
    drained: list[bool] = []

    def close_when_told() -> None:
        # Closing also ends an append that waits for room in a full buffer.
        stop.wait()
        drained.append(producer.close(DRAIN_S))

    closer = threading.Thread(target=close_when_told, name="closer")
    closer.start()
    steps = plan(options.service, options.seed)
    following = next(steps)
    began = monotonic_s()
    ends = began + options.seconds if options.seconds else float("inf")
    while not stop.is_set() and (now := monotonic_s()) < ends:
        due, following = due_steps(steps, following, (now - began) * options.rate)
        if due:
            producer.append_many([step.entry for step in due])
        behind = monotonic_s() - (began + following.at / options.rate)
        if behind > CATCH_UP_S:
            began += behind
        stop.wait(min(PAUSE_S, max(0.0, -behind), max(0.0, ends - now)))
    stop.set()
    closer.join()
    return drained == [True]
