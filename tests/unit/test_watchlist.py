"""Hints at commit never miss what a filter matches, and cost nothing where there is nothing to watch."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.making import NOW_MS, entry, request
from tracehub.pipeline.watchlist import Watchlist
from tracehub.protocol.alerts import Alert, AlertRule
from tracehub.protocol.filters import matches
from tracehub.protocol.logentry import log_entry
from tracehub.protocol.messages import Own, Request, StreamKey
from tracehub.storage.redis.keys import ZERO_TENANT

_ids = itertools.count()
OTHER = "6f1c1f2e-0000-4000-8000-000000000001"


def alert(tenant_id: str = ZERO_TENANT, last_ms: int | None = None, **wanted: Any) -> Alert:
    return Alert(str(next(_ids)), tenant_id, AlertRule("n", wanted, 1), 0, 0, last_ms)


def hinted(watchlist: Watchlist, made: Request, left_out: set[int] | None = None) -> list[str]:
    return watchlist.hints([(made, left_out or set())], NOW_MS, {})


FILTERS: list[dict[str, Any]] = [
    {}, {"service": "svc"}, {"service": "other"}, {"level": "ERROR"}, {"min_level": "WARN"}, {"level": "DEBUG"},
    {"search": "MESSAGE 3"}, {"search": "nothing"}, {"host": "h"}, {"door": "ingest"}, {"metadata": {"a": 1}},
    {"metadata": {"a.b": "x"}}, {"metadata": {"k": None}}, {"metadata": {"ä": 1}}, {"host": ["h", "i"]},
    {"service": "svc", "level": ["INFO", "ERROR"], "search": "message"},
    {"batch_id": "batch"}, {"batch_id": ["own", "x"], "level": "ERROR"}, {"batch_id": "batch", "host": "h"},
    {"app_id": "a"},
]  # fmt: skip


@given(
    wanted=st.sampled_from(FILTERS),
    levels=st.lists(st.sampled_from(["debug", "info", "warn", "error", "fatal"]), min_size=1, max_size=6),
    attrs=st.sampled_from([
        None, b"{}", b'{"a":1}', b'{"a":{"b":"x"}}', b'{"a.b":"x"}', b'{"\\u0061":1}', b'{"k":null}',
        '{"ä":1}'.encode(), b'{"_value":1}', b'{"b":{"a":1}}',
    ]),
    host=st.sampled_from([None, "h", "x"]),
    by_server=st.booleans(),
    left_out=st.sets(st.integers(0, 5)),
)  # fmt: skip
def test_hints_are_what_the_filter_matches(  # noqa: PLR0917 - all of it is drawn
    wanted: dict[str, Any],
    levels: list[str],
    attrs: bytes | None,
    host: str | None,
    by_server: bool,
    left_out: set[int],
) -> None:
    made = made_request(levels, by_server=by_server)
    give = msgspec.structs.force_setattr
    give(made.entries[-1], "attrs", attrs)
    give(made.entries[0], "host", host)
    watchlist = Watchlist()
    one = alert(**wanted)
    watchlist.replace([one])
    shown = [log_entry(made, i, NOW_MS) for i in range(len(levels)) if i not in left_out]
    expected = any(matches(one.wanted(), s) and s["tenant_id"] == ZERO_TENANT for s in shown)
    assert bool(hinted(watchlist, made, left_out)) is expected


def made_request(levels: list[str], *, by_server: bool) -> Request:
    entries = [entry(n + 1, level=level) for n, level in enumerate(levels)]
    if not by_server:
        return request((), entries=entries)
    for n, one in enumerate(entries):
        own = Own(ZERO_TENANT if n % 2 else OTHER, "svc" if n % 3 else "other", "own" if n > 2 else None)
        entries[n] = type(one)(*[getattr(one, f) for f in one.__struct_fields__[:-1]], own)
    return request((), StreamKey(ZERO_TENANT, "@logs", 0), entries=entries)


def test_other_tenants_are_not_watched() -> None:
    watchlist = Watchlist()
    watchlist.replace([alert(OTHER)])
    assert hinted(watchlist, request([1])) == []


def test_what_waits_is_not_hinted_again() -> None:
    watchlist = Watchlist()
    one = alert()
    watchlist.replace([one])
    assert watchlist.hints([(request([1]), set())], NOW_MS, {one.id: 1}) == []


def test_new_and_changed_alerts_are_told() -> None:
    watchlist = Watchlist()
    first, second = alert(), alert()
    assert watchlist.replace([first]) == [first]
    triggered = Alert(first.id, first.tenant_id, first.rule, 0, 0, NOW_MS)
    assert watchlist.replace([triggered, second]) == [second]
    changed = Alert(first.id, first.tenant_id, AlertRule("n", {"level": "FATAL"}, 1), 0, 5, NOW_MS)
    assert watchlist.replace([changed, second]) == [changed]
    assert hinted(watchlist, request([1])) == [second.id]
    assert watchlist.replace([]) == []
    assert hinted(watchlist, request([1])) == []


@pytest.mark.parametrize(
    ("last_ms", "cools_ms"),
    [(None, 0), (NOW_MS, 60_000), (NOW_MS - 59_999, 1), (NOW_MS - 60_000, 0), (NOW_MS - 90_000, 0)],
)
def test_cooling(last_ms: int | None, cools_ms: int) -> None:
    assert alert(last_ms=last_ms).cools_ms(NOW_MS) == cools_ms


@pytest.mark.parametrize("attrs", [b'{"\\u0061":1}', b'{"a":1}'])
def test_a_key_is_found_however_it_is_written(attrs: bytes) -> None:
    made = made_request(["info"], by_server=False)
    msgspec.structs.force_setattr(made.entries[0], "attrs", attrs)
    watchlist = Watchlist()
    watchlist.replace([alert(metadata={"a": 1})])
    assert hinted(watchlist, made)
