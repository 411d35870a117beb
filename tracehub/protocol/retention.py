"""Retention policies (log-service.md §6): what may be asked of one, and which of its archives are allowed. Pure.

A merge changes only the keys that were sent; what is shown beside them (`id`, `tenant_id`, times) may come along and
changes nothing. Where a plain path really leads is judged where the files are (tracehub/storage/archive.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tracehub.protocol.errors import InvalidField

DAYS_DEFAULT: Final = 30
DAYS_MAX: Final = 3_650
SIZE_GB_DEFAULT: Final = 10.0
SIZE_GB_MAX: Final = 1e9
PATH_CHARS_MAX: Final = 500
NAME_CHARS_MAX: Final = 100
_FIELDS: Final = ("retention_days", "max_size_gb", "archive_enabled", "archive_path")
_SHOWN: Final = frozenset(("id", "tenant_id", "created_at", "updated_at"))
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL).fullmatch
_UNPLAIN = re.compile(r"[\x00-\x1f\x7f?#*\[\]%\\]|::")


@dataclass(frozen=True, slots=True)
class Policy:
    """What a tenant's policy says."""

    retention_days: int = DAYS_DEFAULT
    max_size_gb: float = SIZE_GB_DEFAULT
    archive_enabled: bool = False
    archive_path: str | None = None


def read_policy(body: Mapping[str, Any]) -> Policy:
    """The body of a new policy; null is absent. Raises InvalidField."""
    return merged(Policy(), {name: value for name, value in body.items() if value is not None})


def merged(policy: Policy, body: Mapping[str, Any]) -> Policy:
    """The policy with what was sent. Raises InvalidField."""
    for name in body:
        if name not in _FIELDS and name not in _SHOWN:
            raise InvalidField("is no field of a retention policy", field=name[:NAME_CHARS_MAX])
    readers: dict[str, Callable[[Any], Any]] = {
        "retention_days": _days,
        "max_size_gb": _size,
        "archive_enabled": _flag,
        "archive_path": _path,
    }
    changes: dict[str, Any] = {name: readers[name](body[name]) for name in _FIELDS if name in body}
    changed = replace(policy, **changes)
    if changed.archive_enabled and changed.archive_path is None:
        raise InvalidField("is required when archiving", field="archive_path")
    return changed


def _days(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= DAYS_MAX:
        raise InvalidField(f"must be a whole number of days from 1 to {DAYS_MAX}", field="retention_days")
    return value


def _size(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= SIZE_GB_MAX:
        raise InvalidField("must be a number of gigabytes above 0", field="max_size_gb")
    return float(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidField("must be true or false", field="archive_enabled")
    return value


def _path(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > PATH_CHARS_MAX or "\0" in value:
        raise InvalidField(
            f"must be a path or a URL of at most {PATH_CHARS_MAX} characters", field="archive_path"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidField("must be text", field="archive_path") from None
    return value


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
