"""Documents read by types: the first bad field is named, its rule is told, and nothing that somebody sent is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from tracehub.protocol.errors import InvalidField
from tracehub.protocol.shapes import Time, described, shaped


class Cat(msgspec.Struct, tag_field="kind", tag="cat", forbid_unknown_fields=True):
    lives: Annotated[int, Meta(ge=1, le=9)] | None = None


class Dog(msgspec.Struct, tag_field="kind", tag="dog", forbid_unknown_fields=True):
    name: str


class House(msgspec.Struct, forbid_unknown_fields=True):
    street: Annotated[str, Meta(min_length=1, max_length=5)]
    rent: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    is_old: bool | None = None
    rooms: Annotated[list[Literal["bath", "hall"]], Meta(max_length=3)] | None = None
    animals: list[Literal["cat", "dog"] | Cat | Dog] | None = None
    known: dict[str, int] | None = None
    since: Time | None = None


@pytest.mark.parametrize(
    ("document", "field", "message"),
    [
        (5, None, "the body must be an object"),
        ({}, "street", "is required"),
        ({"street": None}, "street", "must be a string (1 to 5 characters)"),
        ({"street": ""}, "street", "must be a string (1 to 5 characters)"),
        ({"street": "x", "rent": 0}, "rent", "must be a number (above 0, at most 1000000000)"),
        ({"street": "x", "is_old": 1}, "is_old", "must be true or false"),
        ({"street": "x", "rooms": 1}, "rooms", "must be a list of bath, hall (at most 3 items)"),
        ({"street": "x", "rooms": ["hall", "attic"]}, "rooms[1]", "must be one of bath, hall"),
        ({"street": "x", "animals": ["cow"]}, "animals[0]", "must be one of cat, dog or an object"),
        ({"street": "x", "animals": [{"kind": "cow"}]}, "animals[0].kind", "must be one of cat, dog"),
        ({"street": "x", "animals": [{}]}, "animals[0].kind", "is required"),
        ({"street": "x", "animals": ["cat", {"kind": "dog"}]}, "animals[1].name", "is required"),
        ({"street": "x", "animals": [{"kind": "dog", "name": "y", "age": 1}]}, "animals[0].age", "is no field here"),
        ({"street": "x", "animals": [{"kind": "cat", "lives": 0}]}, "animals[0].lives",
         "must be a whole number (1 to 9)"),
        ({"street": "x", "known": {"a.b": "x"}}, "known[...]", "must be a whole number"),
        ({"street": "x", "y" * 200: 1}, "y" * 100, "is no field here"),
        ({"street": "x", "a`b - at `$.rent`": 1}, "a`b - at `$.rent`", "is no field here"),
        ({"street": "x", " - at `$": 1}, " - at `$", "is no field here"),
        ({"street": "x", " - at `$.rent": 1}, " - at `$.rent", "is no field here"),
        ({"street": "x", " - at `$" + "[" * 300_000: 1}, (" - at `$" + "[" * 300_000)[:100], "is no field here"),
        ({"street": "x", "animals": [{"kind": "cat", " - at `$.rent": 1}]}, "animals[0]. - at `$.rent",
         "is no field here"),
        ({"street": "x", "rooms": [" - at `$.rent`"]}, "rooms[0]", "must be one of bath, hall"),
        ({"street": "x", "since": 5}, "since", "must be an RFC 3339 time"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(document: Any, field: str | None, message: str) -> None:
    with pytest.raises(InvalidField) as refused:
        shaped(document, House)
    assert (refused.value.field, refused.value.message) == (field, message)


def test_the_place_in_the_body_stands_before_the_field() -> None:
    with pytest.raises(InvalidField) as refused:
        shaped([{"street": 5}], list[House], "houses")
    assert refused.value.field == "houses[0].street"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
KEYS = st.sampled_from(House.__struct_fields__) | st.text(max_size=8)


@given(st.dictionaries(KEYS, JSON))
def test_any_document_is_taken_or_refused_by_field(document: dict[str, Any]) -> None:
    try:
        assert isinstance(shaped(document, House), House)
    except InvalidField as refused:
        told = (refused.field, refused.message)
    else:
        return
    assert told[0] is not None
    assert told[1] == "is required" or told[1].startswith(("must be", "is no field"))


def test_types_describe_themselves() -> None:
    schemas = described([House])
    assert schemas.keys() == {"House", "Cat", "Dog"}
    assert schemas["House"]["required"] == ["street"]
    assert schemas["House"]["properties"]["street"] == {"type": "string", "minLength": 1, "maxLength": 5}
    assert schemas["House"]["additionalProperties"] is False
    assert "default" not in schemas["House"]["properties"]["rent"]
