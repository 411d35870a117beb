"""`tracehub config`: every setting with its value, its default, its variable and what it means."""

from __future__ import annotations

import os
from typing import Any

from pydantic import SecretStr

from apps.admin.show import show
from tracehub.runtime.logging import masked
from tracehub.runtime.settings import ALIASES, KEYS, Settings
from tracehub.runtime.store_addresses import POSTGRES_NAMES, REDIS_NAMES

HIDDEN = "***"
ADDRESSES = {"database_url": POSTGRES_NAMES, "redis_url": REDIS_NAMES}
COLUMNS = ("variable", "value", "default", "from", "description")


def setting_rows(settings: Settings) -> list[dict[str, Any]]:
    """One row per setting; passwords in addresses are masked. Addresses are those that are used in the end."""
    prefix = str(Settings.model_config.get("env_prefix", ""))
    set_names = {name.upper() for name in os.environ}
    others = {name: aliases for _, name, aliases in KEYS} | ALIASES | ADDRESSES
    used = {
        "database_url": settings.database(),
        "redis_url": settings.redis(),
        "buffer_redis_url": settings.buffer_redis(),
    }
    rows = []
    for name, field in Settings.model_fields.items():
        variable = f"{prefix}{name}".upper()
        found = [other for other in (variable, *others.get(name, ())) if other in set_names]
        value = used.get(name) or _plain(getattr(settings, name))
        rows.append(
            {
                "variable": variable,
                "value": HIDDEN if field.annotation is SecretStr and found else masked(value),
                "default": _plain(field.default),
                "from": "environment" if found else "default",
                "description": field.description or "",
            }
        )
    return rows


def config(settings: Settings, *, as_json: bool) -> None:
    """Print them all."""
    show(setting_rows(settings), COLUMNS, as_json=as_json, nothing="There are no settings.")


def _plain(value: object) -> str:
    return ("1" if value else "0") if isinstance(value, bool) else str(value)
