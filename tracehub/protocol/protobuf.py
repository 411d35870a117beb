"""Protobuf messages from tables: for what has no generated classes, and for envelopes whose insides stay bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

# (name, number, type), the type as in a .proto file, with "*" behind it where the field is repeated.
Fields = Iterable[tuple[str, int, str]]
_SCALARS: Final = {
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "fixed32": FieldDescriptorProto.TYPE_FIXED32,
    "fixed64": FieldDescriptorProto.TYPE_FIXED64,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
}


def classes(package: str, tables: Mapping[str, Fields]) -> dict[str, Any]:
    """A class for each table; a type that is no scalar names another table."""
    file = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in tables.items():
        message = file.message_type.add(name=name)
        for field, number, written in fields:
            kind = written.removesuffix("*")
            made = message.field.add(name=field, number=number)
            made.label = made.LABEL_REPEATED if written.endswith("*") else made.LABEL_OPTIONAL
            if kind in _SCALARS:
                made.type = _SCALARS[kind]
            else:
                made.type, made.type_name = made.TYPE_MESSAGE, f".{package}.{kind}"
    pool = DescriptorPool()
    pool.Add(file)
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in tables}
