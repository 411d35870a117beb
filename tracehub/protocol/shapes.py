"""Documents as types: one type says what a body may hold, checks it, and describes it (apps/backend/openapi.py). Pure.

Guarantee: an error names the first bad field and tells its rule, never a value that somebody sent. What one field says
of another, and what needs a clock or a tenant, is not here: the reader of the type looks at that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from tracehub.protocol.errors import InvalidField
from tracehub.protocol.limits import TEXT_CHARS_MAX

NAME_CHARS_MAX: Final = 100
REFERENCE: Final = "#/components/schemas/"
# How the library ends a message about something within the document: with the way there.
_PLACE: Final = " - at `$"
_WAY: Final = re.compile(r"((?:\.\w+|\[\d+\]|\[\.\.\.\])*)`").fullmatch
_STEP: Final = re.compile(r"\.?(\w+|\[[\d.]+\])").findall
_KEY: Final = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL).fullmatch
_KINDS: Final[dict[Any, tuple[str, str, str]]] = {
    "string": ("a string", "Length", " characters"),
    "integer": ("a whole number", "imum", ""),
    "number": ("a number", "imum", ""),
    "boolean": ("true or false", "", ""),
    "array": ("a list", "Items", " items"),
    "object": ("an object", "Properties", " keys"),
}

Schema = dict[str, Any]
T = TypeVar("T")

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
# Its reader has an error of its own for what is none.
Tenant = Annotated[Any, Meta(extra_json_schema={"type": ["string", "null"], "maxLength": 64})]
EntryId = Annotated[
    Any, Meta(extra_json_schema={"type": ["string", "null"], "description": "a UUID or a ULID"})
]
# Shown in answers: it may come back and changes nothing.
Shown = Annotated[Any, Meta(extra_json_schema={"readOnly": True})]


def entry_text(name: str) -> Any:
    """The type of an entry's text that may be absent: at most as long as its column is."""
    return Annotated[str, Meta(max_length=TEXT_CHARS_MAX[name])] | None


def shaped(document: Any, shape: type[T], at: str = "") -> T:
    """The document as this type. `at` is where it stands in the body. Raises InvalidField."""
    try:
        return msgspec.convert(document, shape)
    except msgspec.ValidationError as error:
        text, path = _taken_apart(str(error), document)
    if key := _KEY(text):
        message = "is required" if key[1] == "missing required" else "is no field here"
        raise InvalidField(message, field=_joined(_joined(at, path), key[2][:NAME_CHARS_MAX]))
    told = f"must be {_rule(_found(shape, path)) or 'of another kind'}"
    where = _joined(at, path)
    raise InvalidField(told if where else f"the body {told}", field=where or None)


def sent(body: msgspec.Struct, *names: str) -> dict[str, Any]:
    """Those of these fields that are not null."""
    return {name: value for name in names if (value := getattr(body, name)) is not None}


def described(shapes: Iterable[type]) -> dict[str, Schema]:
    """These types, and those they are made of, as JSON Schemas by name."""
    schemas = msgspec.json.schema_components(shapes, ref_template=REFERENCE + "{name}")[1]
    for schema in schemas.values():
        for field in schema.get("properties", {}).values():
            if field.get("default", ...) is None:  # it is absent then, which is what not required says
                del field["default"]
    return schemas


def rule(schema: Schema, parts: dict[str, Schema]) -> str:
    """What may stand where this schema is, in words; "" for anything. `parts`: what it refers to, by name."""
    return _rule(list(_walk(schema, (), parts)))


def _taken_apart(text: str, document: Any) -> tuple[str, str]:
    """What is wrong, and the way to where. Of what stands in the document itself no way is told, and a key of it may
    end like one."""
    key = _KEY(text)
    if key and isinstance(document, dict) and key[2] in document:
        return text, ""
    start = text.rfind(_PLACE)
    way = _WAY(text, start + len(_PLACE)) if start >= 0 else None
    return (text[:start], way[1].removeprefix(".")) if way else (text, "")


def _joined(one: str, other: str) -> str:
    return f"{one}.{other}" if one and other and not other.startswith("[") else one + other


def _found(shape: type, path: str) -> list[Schema]:
    whole, parts = _schemas(shape)
    return list(_walk(whole, _STEP(path), parts))


@lru_cache(maxsize=100)
def _schemas(shape: type) -> tuple[Schema, dict[str, Schema]]:
    (whole,), parts = msgspec.json.schema_components([shape], ref_template=REFERENCE + "{name}")
    return whole, parts


def _walk(schema: Schema, steps: Sequence[str], parts: dict[str, Schema]) -> Iterator[Schema]:
    """What may stand at the end of these steps; one for each alternative that has such a place."""
    if reference := schema.get("$ref"):
        yield from _walk(parts[reference.removeprefix(REFERENCE)], steps, parts)
    elif "anyOf" in schema:
        for one in schema["anyOf"]:
            yield from _walk(one, steps, parts)
    elif not steps:
        yield schema
    else:
        step, *rest = steps
        items = schema.get("items", schema.get("additionalProperties"))
        within = items if step[0] == "[" else schema.get("properties", {}).get(step)
        if within is not None:
            yield from _walk(within, rest, parts)


def _rule(schemas: Sequence[Schema]) -> str:
    words = [str(word) for schema in schemas for word in schema.get("enum", ())]
    rules = [f"one of {', '.join(words)}"] if words else []
    for schema in schemas:
        kinds = schema.get("type", ())
        if "enum" not in schema:
            rules += [
                _kind(schema, kind)
                for kind in ([kinds] if isinstance(kinds, str) else kinds)
                if kind in _KINDS
            ]
        if not kinds and "description" in schema:
            rules.append(schema["description"])
    return " or ".join(dict.fromkeys(rules))


def _kind(schema: Schema, kind: str) -> str:
    if schema.get("format") == "date-time":
        return "an RFC 3339 time"
    name, bound, unit = _KINDS[kind]
    if words := schema.get("items", {}).get("enum"):
        name += f" of {', '.join(words)}"
    least, most, above = (
        _plain(schema.get(key)) for key in ("min" + bound, "max" + bound, "exclusiveMinimum")
    )
    if least and most:
        return f"{name} ({least} to {most}{unit})"
    bounds = [
        f"{word} {value}"
        for word, value in (("above", above), ("at least", least), ("at most", most))
        if value
    ]
    return f"{name} ({', '.join(bounds)}{unit if most else ''})" if bounds else name


def _plain(bound: float | None) -> str:
    return "" if bound is None else f"{bound:.0f}" if bound == int(bound) else str(bound)
