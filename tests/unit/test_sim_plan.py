"""The simulators' traffic: repeatable, believable, and shared between the services."""

from __future__ import annotations

import json
from itertools import islice

import pytest

from apps.producer_sim.network import hold_back
from apps.producer_sim.plan import SERVICES, Step, plan
from apps.producer_sim.runner import APPENDS_MAX, due_steps
from tracehub_sdk.wire import Request


def steps(service: str, seed: int = 1, count: int = 3000) -> list[Step]:
    return list(islice(plan(service, seed), count))


@pytest.mark.parametrize("service", [*SERVICES, "something-else"])
def test_same_seed_gives_same_steps(service: str) -> None:
    """A run can be repeated; another seed is another run."""
    assert steps(service, 7, 200) == steps(service, 7, 200)
    assert steps(service, 7, 200) != steps(service, 8, 200)


def test_ids_cross_the_services() -> None:
    """A request is found in all three, with one trace and one user."""
    seen = [
        {(s.entry["request_id"], s.entry["trace_id"], s.entry["user_id"]) for s in steps(x)} for x in SERVICES
    ]
    assert len(seen[0] & seen[1] & seen[2]) > 1000


def test_levels_are_mixed() -> None:
    """Mostly information, some trouble."""
    levels = [step.entry["level"] for service in SERVICES for step in steps(service)]
    assert {"debug", "info", "warn", "error"} <= set(levels)
    assert 0.005 < sum(level in ("error", "fatal", "warn") for level in levels) / len(levels) < 0.1


@pytest.mark.parametrize("service", SERVICES)
def test_mean_rate_is_one(service: str) -> None:
    """About one entry per unit of time, so `--rate` means what it says."""
    made = steps(service, 3, 20_000)
    assert 0.85 < len(made) / made[-1].at < 1.35


def test_there_are_bursts() -> None:
    """Some windows of time hold many times the mean."""
    made = steps("auth-svc", 1, 10_000)
    busiest = max(sum(1 for s in made[i : i + 60] if s.at < made[i].at + 10) for i in range(0, 9000, 20))
    assert busiest > 40


def test_due_steps_are_those_up_to_now() -> None:
    """And at most one append's worth."""
    source = plan("auth-svc", 1)
    due, following = due_steps(source, next(source), 50.0)
    assert due
    assert due[-1].at <= 50.0 < following.at
    due, _ = due_steps(source, following, 1e9)
    assert len(due) == APPENDS_MAX


@pytest.mark.parametrize("pick", [0.0, 0.5, 0.99])
def test_holding_back_splits_a_batch(pick: float) -> None:
    """Together the two requests carry what the one did."""
    batch = [{"seq": n, "message": "ü"} for n in (1, 2, 3)]
    body = json.dumps({"service": "s", "epoch": 5, "start": 1, "batch": batch}).encode()
    rest, held = hold_back(Request("POST", "/ingest", body), pick) or pytest.fail("not split")
    first, second = json.loads(rest.body), json.loads(held.body)
    assert len(second["batch"]) == 1
    assert sorted(e["seq"] for e in first["batch"] + second["batch"]) == [1, 2, 3]
    assert (second["epoch"], second["start"]) == (5, 1)


def test_single_entry_is_not_held_back() -> None:
    """Nothing would be left to send."""
    assert hold_back(Request("POST", "/ingest", b'{"batch":[{"seq":1}]}'), 0.5) is None
