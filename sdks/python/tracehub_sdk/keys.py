"""The Redis keys of one producer: public, fixed by contract ingest.md §3 and §6.

All keys of a service share one hash tag, so they live in one slot of a Redis Cluster and one script may
touch them together.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

# A tenant's name stands for the UUIDv5 of it here; the server has the same number.
TENANTS = uuid.UUID("7c0a9f6e-35d4-5b0c-9a55-8a4f5d2e1b90")
TENANT_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
SERVICE = re.compile(r"[A-Za-z0-9._:/-]{1,100}\Z")


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names of one service. `tenant` is empty for the default tenant, else its UUID or its name."""

    buffer: str
    """Sorted set: score = seq, member = the entry's JSON, whose first keys are `epoch` and `seq`."""

    @classmethod
    def of(cls, service: str, tenant: str = "") -> Keys:
        """Keys of `service`. Raises ValueError when a name is not one that the server takes."""
        if not SERVICE.match(service):
            raise ValueError(f"service must be 1 to 100 characters of A-Z a-z 0-9 . _ : / -, not {service!r}")
        tenant_id = tenant_uuid(tenant) if tenant else uuid.UUID(int=0)
        name = f"{tenant_id}@{service}" if tenant_id.int else service
        return cls(f"producer:{{{name}}}")

    @property
    def meta(self) -> str:
        """Hash `epoch`, `next`, `start` (and, for `tracehub ship`, the places in its files)."""
        return self.buffer + ":meta"

    @property
    def sender(self) -> str:
        """String with a time to live: the instance that sends for this service."""
        return self.buffer + ":sender"

    @property
    def rejected(self) -> str:
        """List, newest first: `{"reason": …, "entry": …}` of entries that the server refused."""
        return self.buffer + ":rejected"

    @property
    def lost(self) -> str:
        """Hash `epoch:from:to` -> reason: numbers given up that the server has not been told of."""
        return self.buffer + ":lost"

    def last_append(self, instance: str) -> str:
        """String with a time to live: what one instance's last append became, so it can be repeated."""
        return f"{self.buffer}:append:{instance}"


def tenant_uuid(tenant: str) -> uuid.UUID:
    """A tenant's UUID, of that or of its name. Raises ValueError for what is neither."""
    if not TENANT_NAME.match(tenant):
        raise ValueError(f"tenant must be a UUID, or 1 to 64 characters of A-Z a-z 0-9 . _ -, not {tenant!r}")
    digits = tenant.replace("-", "")
    if (
        len(digits) == 32
        and tenant in (digits, _hyphened(digits))
        and re.fullmatch("[0-9a-fA-F]{32}", digits)
    ):
        return uuid.UUID(digits)
    return uuid.uuid5(TENANTS, tenant)


def _hyphened(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
