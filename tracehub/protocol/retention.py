"""Retention policies (log-service.md §6): what may be asked of one, and which of its archives are allowed. Pure.

A merge changes only the keys that were sent; what is shown beside them (`id`, `tenant_id`, times) may come along and
changes nothing. Where a plain path really leads is judged where the files are (tracehub/storage/archive.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tracehub.protocol.errors import InvalidField
from tracehub.protocol.shapes import Shown, Tenant, sent, shaped

DAYS_DEFAULT: Final = 30
DAYS_MAX: Final = 3_650
SIZE_GB_DEFAULT: Final = 10.0
SIZE_GB_MAX: Final = 1e9
PATH_CHARS_MAX: Final = 500
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL).fullmatch
_UNPLAIN = re.compile(r"[\x00-\x1f\x7f?#*\[\]%\\]|::")


@dataclass(frozen=True, slots=True)
class Policy:
    """What a tenant's policy says."""

    retention_days: int = DAYS_DEFAULT
    max_size_gb: float = SIZE_GB_DEFAULT
    archive_enabled: bool = False
    archive_path: str | None = None


class PolicyBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST and PUT /api/v1/retention. What is absent keeps its value, or takes the default; so does null,
    but for archive_path, which null takes away."""

    retention_days: Annotated[int, Meta(ge=1, le=DAYS_MAX)] | None = None
    max_size_gb: Annotated[float, Meta(gt=0, le=SIZE_GB_MAX)] | None = None
    archive_enabled: bool | None = None
    archive_path: Annotated[str, Meta(max_length=PATH_CHARS_MAX)] | UnsetType | None = UNSET
    tenant_id: Tenant = None  # of a new one
    id: Shown = None
    created_at: Shown = None
    updated_at: Shown = None


def merged(policy: Policy, document: Any) -> Policy:
    """The policy with what a PolicyBody says. Raises InvalidField."""
    body = shaped(document, PolicyBody)
    changes = sent(body, "retention_days", "max_size_gb", "archive_enabled")
    if body.archive_path is not UNSET:
        changes["archive_path"] = body.archive_path or None
    changed = replace(policy, **changes)
    if changed.archive_enabled and changed.archive_path is None:
        raise InvalidField("is required when archiving", field="archive_path")
    return changed


def scheme_of(path: str) -> str | None:
    """The scheme of a URL, in lower case; None for a plain path."""
    found = _URL(path)
    return found[1].lower() if found else None


def check_url(path: str, schemes: Collection[str], prefixes: Collection[str] | None) -> None:
    """Refuse a URL of another scheme, one with signs or steps that lead elsewhere, and, where `prefixes` are given, one
    that begins with none of them. Raises InvalidField."""
    if scheme_of(path) not in schemes:
        raise InvalidField("archives of this kind are not allowed here", field="archive_path")
    steps = path.split("://", 1)[1].split("/")
    if not steps[0] or "@" in steps[0] or _UNPLAIN.search(path) or not {".", ".."}.isdisjoint(steps):
        raise InvalidField("must be a plain URL", field="archive_path")
    if prefixes is not None and not any(_begins(path, prefix) for prefix in prefixes):
        raise InvalidField("this key may not archive there", field="archive_path")


def _begins(path: str, prefix: str) -> bool:
    whole = prefix.rstrip("/")
    return bool(whole) and (path == whole or path.startswith(whole + "/"))


def bytes_of(gigabytes: float) -> float:
    """GiB as bytes."""
    return gigabytes * 2**30 if math.isfinite(gigabytes) else math.inf
