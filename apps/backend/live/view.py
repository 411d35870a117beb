"""What one caller sees of the present: a tenant (or all), and within it a service (or all)."""

from __future__ import annotations

from dataclasses import dataclass

from tracehub.protocol.grants import Caller


@dataclass(frozen=True, slots=True)
class View:
    """tenant_id None: every tenant; service None: every service. `of_server`: also what is nobody's own, such as
    how much waits in the queue altogether."""

    tenant_id: str | None
    service: str | None = None
    of_server: bool = True

    @classmethod
    def of(cls, caller: Caller) -> View:
        """What this caller may see."""
        return cls(caller.readable_tenant, caller.app_key, not caller.is_bound)

    def sees(self, tenant_id: str, service: str) -> bool:
        """Whether this service of this tenant is within it."""
        return self.tenant_id in (None, tenant_id) and self.service in (None, service)
