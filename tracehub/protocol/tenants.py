"""Tenants (log-service.md §1.5): a text that names one, and the UUID under which everything of it is kept.

A UUID, with or without hyphens and in any case, stands for itself; any other text of [A-Za-z0-9._-]{1,64} is a
name and stands for the UUIDv5 of it in NAMESPACE, which therefore must never change.
"""

from __future__ import annotations

import re
import uuid
from typing import Final

from tracehub.protocol.errors import InvalidTenantId

DEFAULT_TENANT: Final = "00000000-0000-0000-0000-000000000000"
NAMESPACE: Final = uuid.UUID("7c0a9f6e-35d4-5b0c-9a55-8a4f5d2e1b90")
_HEX = "[0-9a-fA-F]"
_UUID = re.compile(rf"{_HEX}{{32}}|{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}").fullmatch
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch


def read_tenant(text: object) -> str:
    """The tenant's UUID, lower case with hyphens. Raises InvalidTenantId for anything that is no tenant."""
    if not isinstance(text, str):
        raise InvalidTenantId
    if _UUID(text):
        return str(uuid.UUID(text))
    if not _NAME(text):
        raise InvalidTenantId
    return str(uuid.uuid5(NAMESPACE, text))
