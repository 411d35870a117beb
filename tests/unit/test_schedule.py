"""Schedules are read as cron reads them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tracehub.protocol.schedule import Schedule, read_schedule
from tracehub.runtime.settings import Settings

ANY = None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0 2 * * *", ([0], [2], ANY, ANY, ANY)),
        ("*/20 1-3 1,15 * *", ([0, 20, 40], [1, 2, 3], [1, 15], ANY, ANY)),
        ("5/25 * * jan,DEC mon-fri", ([5, 30, 55], ANY, ANY, [1, 12], [0, 1, 2, 3, 4])),
        ("0 0 29 2 *", ([0], [0], [29], [2], ANY)),
        ("0 0 * * 0", ([0], [0], ANY, ANY, [6])),
        ("0 0 * * 7", ([0], [0], ANY, ANY, [6])),
    ],
)
def test_fields(text: str, wanted: tuple[list[int] | None, ...]) -> None:
    assert read_schedule(text) == Schedule(*(None if w is None else frozenset(w) for w in wanted))


def test_a_day_of_either_kind_is_enough() -> None:
    assert read_schedule("0 0 1 * mon").either
    assert not read_schedule("0 0 1 * *").either


@pytest.mark.parametrize("text", ["", "0 2 * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "x * * * *", "*/0 * * * *",
                                  "5-1 * * * *", "0 2 * * * *", "0 0 31 2,4 *", "1- * * * *"])  # fmt: skip
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(ValueError, match="schedule"):
        read_schedule(text)
    with pytest.raises(ValidationError):
        Settings(log_cleanup_cron=text)


def test_settings_have_both_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_RETENTION_DAYS", "7")
    monkeypatch.setenv("LOG_MAX_SIZE_GB", "1.5")
    monkeypatch.setenv("TRACEHUB_LOG_MAX_SIZE_GB", "2.5")
    monkeypatch.setenv("LOG_CLEANUP_ENABLED", "false")
    found = Settings()
    assert (found.log_retention_days, found.log_max_size_gb, found.log_cleanup_enabled) == (7, 2.5, False)
    assert Settings.model_fields["log_cleanup_cron"].default == "0 2 * * *"
