"""Whole processes, killed on purpose. `SEED=n` repeats the random moments of a run."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

for module in ("audit", "load", "stack", "viewer"):
    pytest.register_assert_rewrite(f"tests.e2e.{module}")

from tests.e2e.stack import Stack  # noqa: E402 - after the lines above, or its asserts would say nothing


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("SEED") or secrets.randbelow(10**9))


@pytest.fixture
def rng(seed: int) -> random.Random:
    return random.Random(seed)


@pytest.fixture
def stack(tmp_path: Path, seed: int) -> Iterator[Stack]:
    """A running stack; pytest shows what is printed here when the test fails."""
    made = Stack(tmp_path)
    try:
        made.start()
        yield made
    finally:
        print(f"SEED={seed}\n{made.tails()}")
        made.end()
