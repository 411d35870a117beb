"""JSON that is still text: mended and pruned."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracehub.protocol import jsontext
from tracehub.protocol.lenient import load_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)


def model(value: Any, room: int) -> Any:
    """The same on values."""
    if isinstance(value, list):
        return [model(item, room - 1) for item in value] if room else None
    if isinstance(value, dict):
        return {key: model(item, room - 1) for key, item in value.items()} if room else None
    return value


@given(VALUES, st.integers(1, 4), st.sampled_from([None, 1]))
def test_pruned_is_what_stands_so_deep(value: Any, depth: int, indent: int | None) -> None:
    pruned = jsontext.pruned(json.dumps(value, indent=indent).encode(), depth)
    assert json.loads(pruned) == model(value, depth)


@given(st.text(st.characters(categories=None), max_size=12))
def test_mended_is_what_the_lenient_reader_reads(text: str) -> None:
    body = json.dumps({"a": text + "\\", text: 1}).encode()
    assert json.loads(jsontext.mended(body)) == load_json(body)


@pytest.mark.parametrize("body", [b"[" * 9, b"[]" * 9 + b"[", b'{"a":' * 9])
def test_what_does_not_end_is_left_out(body: bytes) -> None:
    assert jsontext.pruned(body, 3) == b""


def test_looking_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsontext, "TOKENS_MAX", 10)
    assert jsontext.pruned(b"[" * 9 + b"]" * 9, 3) == b""
