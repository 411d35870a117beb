"""Tenants by UUID and by name."""

from __future__ import annotations

import uuid

import pytest

from tracehub.protocol.errors import InvalidTenantId
from tracehub.protocol.tenants import NAMESPACE, read_tenant
from tracehub_sdk.keys import TENANTS, tenant_uuid

ONE = "6f1c1f2e-0000-4000-8000-00000000000a"


@pytest.mark.parametrize("text", [ONE, ONE.upper(), ONE.replace("-", "")])
def test_a_uuid_stands_for_itself(text: str) -> None:
    assert read_tenant(text) == ONE
    assert str(tenant_uuid(text)) == ONE


@pytest.mark.parametrize(
    "text", ["team-a", "A.b_c-9", "x" * 64, ONE[:-1], "6f1c1f2e00004000-8000-00000000000a"]
)
def test_a_name_stands_for_one_uuid(text: str) -> None:
    assert read_tenant(text) == str(uuid.uuid5(NAMESPACE, text)) == str(tenant_uuid(text))


def test_the_namespace_never_changes() -> None:
    """Whoever changes it moves everybody's logs out of their sight."""
    assert read_tenant("team-a") == "69372a72-0b69-5048-b27d-0dde4c3cd5f0"
    assert TENANTS == NAMESPACE


@pytest.mark.parametrize(
    "text", ["", "a b", "x" * 65, "ä", "a/b", "team-a\n", "{" + ONE + "}", None, 5, ["a"]]
)
def test_anything_else_is_no_tenant(text: object) -> None:
    with pytest.raises(InvalidTenantId):
        read_tenant(text)
    if isinstance(text, str):
        with pytest.raises(ValueError, match="tenant"):
            tenant_uuid(text)
