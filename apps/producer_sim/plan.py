"""Believable traffic as a pure function of a seed: no clock, no I/O.

Guarantee: `plan(service, seed)` gives the same endless steps every time, and the plans of the three services
tell of the same requests: a request's id, trace and user are the same in all of them.

Times are in units of one mean gap between entries: the runner divides them by its rate. On average each
service logs ENTRIES_PER_REQUEST entries a request, so three simulators at one rate stay side by side.
Sending late or twice is not planned here: that is the network's doing (network.py).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

SERVICES = ("auth-svc", "payment-svc", "notif-svc")
ENTRIES_PER_REQUEST = 2.0
BURST_CHANCE = 0.01
BURST_REQUESTS = (15, 60)
BURST_SPEED = 12.0
USERS = 500
REGIONS = ("eu-west-1", "eu-central-1", "us-east-1")
RELEASES = ("2.14.0", "2.14.1", "2.15.0")


@dataclass(frozen=True, slots=True)
class Call:
    """One request that crosses the services."""

    at: float
    request_id: str
    trace_id: str
    user_id: str
    region: str
    fate: str
    """`ok`, or the name of the service in which it fails."""
    amount: float
    lines_seed: int


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of one service, and when: units of the mean gap since the start."""

    at: float
    entry: dict[str, object]


def calls(seed: int) -> Iterator[Call]:
    """The requests of all services, in order of time."""
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    at, burst = 0.0, 0
    while True:
        if burst == 0 and rng.random() < BURST_CHANCE:
            burst = rng.randint(*BURST_REQUESTS)
        speed = BURST_SPEED if burst else 1.0
        burst = max(0, burst - 1)
        at += rng.expovariate(speed / ENTRIES_PER_REQUEST)
        fate = rng.choices(("ok", *SERVICES), (92, 3, 3, 2))[0]
        yield Call(
            at,
            request_id=f"req-{rng.getrandbits(48):012x}",
            trace_id=f"{rng.getrandbits(128):032x}",
            user_id=f"user-{rng.randrange(USERS):04d}",
            region=rng.choice(REGIONS),
            fate=fate,
            amount=round(rng.lognormvariate(3.2, 1.0), 2),
            lines_seed=rng.getrandbits(32),
        )


def plan(service: str, seed: int) -> Iterator[Step]:
    """The entries of one service. Any name works; other names than SERVICES get plain request logs."""
    for call in calls(seed):
        rng = random.Random(f"{call.lines_seed}:{service}")  # noqa: S311 - repeatable on purpose
        lines = list(_lines(service, call, rng))
        release = RELEASES[min(2, int(call.at) // 20_000)]
        for i, (level, message, attrs) in enumerate(lines):
            yield Step(
                call.at + i * 0.05,
                {
                    "level": level,
                    "message": message,
                    "request_id": call.request_id,
                    "trace_id": call.trace_id,
                    "span_id": f"{rng.getrandbits(64):016x}",
                    "user_id": call.user_id,
                    "host": f"{service}-{rng.randrange(3)}",
                    "environment": "demo",
                    "release": release,
                    "attrs": {"region": call.region, **attrs},
                },
            )


Line = tuple[str, str, dict[str, object]]


def _lines(service: str, call: Call, rng: random.Random) -> Iterator[Line]:
    failed = call.fate == service
    took = round(rng.lognormvariate(2.6, 0.6) * (8 if failed else 1), 1)
    match service:
        case "auth-svc":
            yield from _auth(call, rng, failed, took)
        case "payment-svc":
            yield from _payment(call, rng, failed, took)
        case "notif-svc":
            yield from _notification(call, rng, failed, took)
        case _:
            yield "info", f"GET /items/{rng.randrange(1000)} 200 in {took} ms", {"duration_ms": took}
            yield "debug", f"cache {rng.choice(('hit', 'miss'))}", {"duration_ms": took}


def _auth(call: Call, rng: random.Random, failed: bool, took: float) -> Iterator[Line]:
    method = rng.choice(("password", "token", "oauth"))
    yield "info", f"login attempt of {call.user_id} with {method}", {"method": method}
    if failed and rng.random() < 0.3:
        yield "error", "session store did not answer: connection reset by peer", {"duration_ms": took}
    elif failed:
        tries = rng.randint(2, 5)
        yield "warn", f"wrong password for {call.user_id}, attempt {tries}", {"attempt": tries}
    else:
        yield "info", f"session opened for {call.user_id} in {took} ms", {"duration_ms": took}


def _payment(call: Call, rng: random.Random, failed: bool, took: float) -> Iterator[Line]:
    money: dict[str, object] = {"amount": call.amount, "currency": "EUR"}
    card = rng.choice(("visa", "mastercard", "sepa"))
    yield "debug", f"risk score {rng.randrange(100)} for {call.amount:.2f} EUR", money
    if failed and rng.random() < 0.2:
        yield "fatal", "payment gateway unreachable, circuit opened", {**money, "duration_ms": took}
    elif failed:
        code = rng.choice(("insufficient_funds", "expired_card", "do_not_honour"))
        yield "error", f"{card} payment of {call.amount:.2f} EUR declined: {code}", {**money, "code": code}
    else:
        yield (
            "info",
            f"{card} payment of {call.amount:.2f} EUR captured in {took} ms",
            {**money, "duration_ms": took},
        )


def _notification(call: Call, rng: random.Random, failed: bool, took: float) -> Iterator[Line]:
    channel = rng.choice(("email", "push", "sms"))
    waiting = rng.randrange(40)
    yield "debug", f"receipt for {call.user_id} queued behind {waiting}", {"waiting": waiting}
    if failed:
        yield "warn", f"{channel} to {call.user_id} bounced, will try again", {"channel": channel}
    else:
        yield (
            "info",
            f"{channel} sent to {call.user_id} in {took} ms",
            {"channel": channel, "duration_ms": took},
        )
