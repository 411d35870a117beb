"""Reading the fields of a document: depth, odd text, ids in both spellings."""

from __future__ import annotations

import json
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracehub.protocol.errors import InvalidId, InvalidJSON
from tracehub.protocol.fields import add_unknown, encode_attrs, is_deep, read_id, read_json, ulid
from tracehub.protocol.lenient import load_json


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_both_readers_read_the_same(value: object) -> None:
    body = json.dumps(value).encode()
    try:
        expected = load_json(body)
    except InvalidJSON:
        with pytest.raises(InvalidJSON):
            read_json(body)
    else:
        assert read_json(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 65 + b"]" * 65,
        b'["' + b"}" * 99 + b'",' + b"[" * 64 + b"]" * 64 + b',"' + b"{" * 99 + b'"]',
        b'{"a\\"' + b"]" * 9 + b'":' + b"[" * 64 + b"]" * 64 + b"}",
        b"[" * 100_000,
        b'{"a":1e999}',
        b'{"a":' + b"9" * 400 + b"}",
        b"[NaN]",
        b"",
        b"\xff",
    ],
)
def test_what_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJSON):
        read_json(body)


def test_depth_64_is_taken_and_brackets_in_text_do_not_count() -> None:
    assert read_json(b"[" * 64 + b"]" * 64)
    assert read_json(json.dumps(["[" * 500, "\\", "{" * 500]).encode())


@given(
    st.recursive(
        st.sampled_from(["[]", "{", "\\", '"', "x"]), lambda inner: st.lists(inner, max_size=4), max_leaves=30
    ),
    st.integers(50, 70),
)
def test_depth_is_that_of_the_document(value: object, levels: int) -> None:
    def depth(value: object) -> int:
        return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0

    document: object = value
    for n in range(levels):
        document = [document] if n % 3 else [document, "]}", ["\\"]]
    text = json.dumps(document).replace("[", "[ ").encode()
    assert is_deep(text) == (depth(document) > 64)


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"{}," * 3_400_000 + b"{}]",
        b"[" * 10_000_000,
        b"[" * 5_000_000 + b"]" * 5_000_000,
        b'{"' * 2_000_000,
    ],
)
def test_depth_of_millions_of_brackets_is_known_at_once(body: bytes) -> None:
    begun = time.process_time()
    is_deep(body)
    assert time.process_time() - begun < 2  # a loop over them took 4 to 7 s


def test_odd_text_is_mended() -> None:
    assert read_json(b'{"a\\u0000":"\\ud800x\\udfff"}') == {"a\ufffd": "\ufffdx\ufffd"}


@given(st.uuids())
def test_ids_in_both_spellings(entry_id: uuid.UUID) -> None:
    for spelling in (str(entry_id), entry_id.hex.upper(), ulid(entry_id.bytes), ulid(entry_id.bytes).lower()):
        assert read_id(spelling) == entry_id
    misread = ulid(entry_id.bytes).replace("0", "O").replace("1", "l")
    assert read_id(misread) == entry_id


@pytest.mark.parametrize("text", ["", "x", "8" + "0" * 25, "U" * 26, "0" * 27, "zz" * 16, "\uff11" * 26])
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(InvalidId):
        read_id(text)


def test_attrs() -> None:
    assert encode_attrs({}, "metadata") == b"{}"
    assert encode_attrs([1], "metadata") == b'{"_value":[1]}'
    assert add_unknown({"a": 1}, {"a": 2, "b": 3}) == {"a": 1, "b": 3}
    assert add_unknown(None, {"b": 3}) == {"b": 3}
    assert add_unknown([1], {"b": 3}) == [1]
    assert add_unknown(None, {}) is None
