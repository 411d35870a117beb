"""Filters as people write them, and cursors that belong to one question."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracehub.protocol.errors import InvalidField
from tracehub.protocol.filters import (
    DEPTH_MAX,
    EXACT,
    VALUES_MAX,
    LogFilter,
    Paging,
    Position,
    from_json,
    from_query,
    read_cursor,
    write_cursor,
)  # fmt: skip


def asked(**words: Any) -> LogFilter:
    return from_json(words)[0]


@pytest.mark.parametrize(
    ("word", "ranges"),
    [
        ("debug", ((1, 8),)), ("DEBUG", ((1, 8),)), ("trace", ((1, 4),)), ("info", ((9, 12),)),
        ("NOTICE", ((10, 12),)), ("information", ((9, 9),)), ("warning", ((13, 16),)), ("fatal", ((21, 24),)),
        ("critical", ((21, 21),)), ("emerg", ((23, 24),)), ("nonsense", ()),
    ],
)  # fmt: skip
def test_level_words(word: str, ranges: tuple[tuple[int, int], ...]) -> None:
    assert asked(level=word).severities == ranges


def test_least_level_cuts_the_levels() -> None:
    assert asked(min_level="WARN").severities == ((13, 24),)
    assert asked(min_level="notice", level=["debug", "info", "error"]).severities == ((10, 12), (17, 20))
    assert asked(min_level="nonsense").severities == ()
    assert asked().severities is None


def test_both_ways_of_writing_mean_the_same() -> None:
    written = from_query(
        [
            ("service", "b"), ("service_name", "a"), ("level", "error"), ("start", "2024-01-15 10:30:00"),
            ("end_time", "2024-01-15T11:30:00.5+01:00"), ("search", "50%"), ("unknown", "ignored"), ("host", ""),
        ]
    )[0]  # fmt: skip
    assert written == asked(
        service=["a", "b"], level="error", start_time="2024-01-15T10:30:00Z", end="2024-01-15T10:30:00.5Z",
        search="50%", trace_id="", request_id=None,
    )  # fmt: skip


def test_query_string_values_of_metadata_have_no_type() -> None:
    def alternatives(text: str) -> tuple[str, ...]:
        return from_query([("metadata.x.y", text)])[0].metadata[0][1]

    assert alternatives("5") == ('"5"', "5")
    assert alternatives("true") == ('"true"', "true")
    assert alternatives("null") == ('"null"', "null")
    assert alternatives("[1]") == ('"[1]"',)
    assert alternatives("NaN") == ('"NaN"',)
    assert asked(metadata={"x": "5"}).metadata == (("x", ('"5"',)),)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"nonsense": 1}, "nonsense"), ({"service": 1}, "service"), ({"service": ["a", 1]}, "service[1]"),
        ({"start": "yesterday"}, "start"), ({"end_time": "2024-13-01"}, "end_time"), ({"search": "x" * 257}, "search"),
        ({"trace_id": ["t"] * (VALUES_MAX + 1)}, "trace_id"), ({"level": ["info"] * (VALUES_MAX + 1)}, "level"),
        ({"metadata": []}, None), ({"metadata": "x"}, "metadata"),
        ({"metadata": {str(n): n for n in range(11)}}, "metadata"),
        ({"page": 101, "page_size": 1000}, "page"), ({"cursor": 5}, "cursor"), ([], None), ("x", None),
    ],
)  # fmt: skip
def test_bad_filters_name_the_field(document: Any, field: str | None) -> None:
    if document == {"metadata": []}:
        assert from_json(document)[0] == LogFilter()
        return
    with pytest.raises(InvalidField) as caught:
        from_json(document)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("document", "same"),
    [
        ({"min_level": ["info", "WARN", ""]}, {"min_level": "WARN"}), ({"search": ["a", "b"]}, {"search": "b"}),
        ({"start": [], "end_time": [""]}, {}), ({"start": ["2024-01-15T10:30:00Z"]}, {"start": "2024-01-15T10:30:00Z"}),
        ({"host": [""] * 51 + ["h"]}, {"host": "h"}), ({"metadata": ""}, {}),
        ({"level": ["", "INFO"]}, {"level": "INFO"}),
    ],
)  # fmt: skip
def test_empty_words_are_none_and_the_last_counts(document: Any, same: Any) -> None:
    assert from_json(document) == from_json(same)


def test_words_of_a_column_are_counted_together() -> None:
    half = [f"s{n}" for n in range(30)]
    with pytest.raises(InvalidField) as refused:
        from_json({"service": half, "service_name": half})
    assert refused.value.field == "service_name"
    with pytest.raises(InvalidField):
        from_query([(name, text) for name in ("service", "service_name") for text in half])


def test_the_last_time_of_a_query_counts_whatever_its_name() -> None:
    start, other, last = (f"2024-01-0{n}T00:00:00Z" for n in (1, 2, 3))
    asked = from_query([("start", start), ("start_time", other), ("start", last)])
    assert asked == from_query([("start", last)])


@pytest.mark.parametrize(
    ("given", "paging"),
    [
        ({}, Paging()), ({"page": 0}, Paging()), ({"page": "x", "page_size": "y"}, Paging()),
        ({"page": 3, "page_size": 5_000}, Paging(page=3, page_size=1_000)),
        ({"page_size": -4}, Paging(page_size=1)), ({"order": "asc"}, Paging(ascending=True)),
        ({"cursor": ""}, Paging(cursor="", count=False)),
        ({"cursor": "", "count": True}, Paging(cursor="")),
        ({"page": DEPTH_MAX, "cursor": ""}, Paging(page=DEPTH_MAX, cursor="", count=False)),
    ],
)  # fmt: skip
def test_paging(given: dict[str, Any], paging: Paging) -> None:
    assert from_json(given)[1] == paging
    assert from_query([(name, str(value).lower()) for name, value in given.items()])[1] == paging


@given(st.integers(0, 2**47 - 1), st.binary(min_size=16, max_size=16), st.text(max_size=20), st.booleans())
def test_cursor_goes_there_and_back(ts_ms: int, entry_id: bytes, search: str, ascending: bool) -> None:
    question, place = LogFilter(search=search), Position(ts_ms, entry_id)
    cursor = write_cursor(place, question, ascending=ascending)
    assert read_cursor(cursor, question, ascending=ascending) == place
    with pytest.raises(InvalidField):
        read_cursor(cursor, LogFilter(search=search + "x"), ascending=ascending)
    with pytest.raises(InvalidField):
        read_cursor(cursor, question, ascending=not ascending)


@given(st.data())
def test_a_cursor_with_another_character_is_refused(data: st.DataObject) -> None:
    good = write_cursor(Position(1_700_000_000_000, bytes(range(16))), LogFilter(), ascending=False)
    place = data.draw(st.integers(0, len(good) - 1))
    letters = string.ascii_letters + string.digits + "-_="
    letter = data.draw(st.sampled_from([other for other in letters if other != good[place]]))
    with pytest.raises(InvalidField):
        read_cursor(good[:place] + letter + good[place + 1 :], LogFilter(), ascending=False)


@given(st.text(max_size=60) | st.binary(max_size=40).map(bytes.hex))
def test_damaged_cursors_are_refused(cursor: str) -> None:
    with pytest.raises(InvalidField):
        read_cursor(cursor, LogFilter(), ascending=False)


OTHERS = (
    "level", "min_level", "search", "start_time", "start", "end_time", "end", "metadata",
    "page", "page_size", "order", "cursor", "count", "user_agent",
)  # fmt: skip


@given(
    st.dictionaries(
        st.text(max_size=12) | st.sampled_from(("service", "level")),
        st.recursive(st.none() | st.integers() | st.text(), st.lists),
    )
)
def test_any_json_is_a_filter_or_named(document: dict[str, Any]) -> None:
    known = document.keys() <= {*EXACT, *OTHERS}
    try:
        from_json(document)
    except InvalidField as error:
        refused: str | None = error.field
    else:
        refused = None
    assert refused is None or any(refused == key or refused.startswith(key + "[") for key in document)
    assert known or refused is not None
