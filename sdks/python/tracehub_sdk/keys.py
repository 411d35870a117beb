"""The Redis keys of one producer: public, fixed by contract ingest.md §3 and §6.

All keys of a service share one hash tag, so they live in one slot of a Redis Cluster and one script may
touch them together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SERVICE = re.compile(r"[A-Za-z0-9._:/-]{1,100}\Z")


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names of one service. `tenant` is empty for the default tenant, else its UUID."""

    buffer: str
    """Sorted set: score = seq, member = the entry's JSON, whose first keys are `epoch` and `seq`."""

    @classmethod
    def of(cls, service: str, tenant: str = "") -> Keys:
        """Keys of `service`. Raises ValueError when the name is not one that the server takes."""
        if not SERVICE.match(service):
            raise ValueError(f"service must be 1 to 100 characters of A-Z a-z 0-9 . _ : / -, not {service!r}")
        name = f"{tenant}@{service}" if tenant else service
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
