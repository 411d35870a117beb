"""`tracehub config`: every setting with its value, its default, its variable and what it means."""

from __future__ import annotations

import os
from typing import Any

from apps.admin.show import show
from tracehub.runtime.logging import masked
from tracehub.runtime.settings import Settings

COLUMNS = ("variable", "value", "default", "from", "description")


def setting_rows(settings: Settings) -> list[dict[str, Any]]:
    """One row per setting; passwords in addresses are masked."""
    prefix = str(Settings.model_config.get("env_prefix", ""))
    set_names = {name.upper() for name in os.environ}
    return [
        {
            "variable": (variable := f"{prefix}{name}".upper()),
            "value": masked(_plain(getattr(settings, name))),
            "default": _plain(field.default),
            "from": "environment" if variable in set_names else "default",
            "description": field.description or "",
        }
        for name, field in Settings.model_fields.items()
    ]


def config(settings: Settings, *, as_json: bool) -> None:
    """Print them all."""
    show(setting_rows(settings), COLUMNS, as_json=as_json, nothing="There are no settings.")


def _plain(value: object) -> str:
    return ("1" if value else "0") if isinstance(value, bool) else str(value)
