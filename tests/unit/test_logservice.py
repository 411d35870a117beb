"""Entries of the log service as they are read: the first bad field of a batch, and a key that names the service."""

from __future__ import annotations

from typing import Any

import pytest

from tests.making import NOW_MS
from tracehub.protocol.errors import InvalidField, TooLarge, TraceHubError
from tracehub.protocol.logservice import Given, read_batch, read_one

TENANT = "00000000-0000-0000-0000-000000000000"
ANYBODY = Given(NOW_MS, lambda _: TENANT)
GOOD = {"service_name": "s", "message": "m"}


@pytest.mark.parametrize(
    ("entries", "code", "field"),
    [
        ([{**GOOD, "timestamp": "bad"}, {"message": 5}], "invalid_field", "entries[0].timestamp"),
        ([{"message": "m"}, {"service_name": "s"}], "invalid_field", "entries[0].service_name"),
        ([{**GOOD, "id": "bad"}, {"service_name": "s"}], "invalid_id", "entries[0].id"),
        ([GOOD, {**GOOD, "trace_id": "x" * 65}, {"message": 5}], "invalid_field", "entries[1].trace_id"),
        ([GOOD, 5], "invalid_field", "entries[1]"),
        (5, "invalid_field", "entries"),
    ],
)
def test_the_first_bad_field_of_a_batch_is_named(entries: Any, code: str, field: str) -> None:
    with pytest.raises(TraceHubError) as refused:
        read_batch({"entries": entries}, ANYBODY)
    assert (refused.value.code, refused.value.field) == (code, field)


def test_too_many_are_too_many_whatever_they_are() -> None:
    with pytest.raises(TooLarge):
        read_batch({"entries": [5] * 5_001}, ANYBODY)
    assert read_batch({}, ANYBODY) == read_batch({"entries": None}, ANYBODY) == []


@pytest.mark.parametrize("said", [5, "x" * 101, {}, "other", "", None])
def test_of_a_key_of_one_service_nothing_else_is_looked_at(said: Any) -> None:
    bound = Given(NOW_MS, lambda _: TENANT, "svc")
    (entry,) = read_one({"message": "m", "service_name": said}, bound)
    assert entry.own is not None
    assert entry.own.service == "svc"
    if said != "other":
        with pytest.raises(InvalidField) as refused:
            read_one({"message": "m", "service_name": said}, ANYBODY)
        assert refused.value.field == "service_name"
