"""`tracehub migrate`."""

from __future__ import annotations

import asyncio
import sys

import asyncpg

from tracehub.protocol.errors import TraceHubError
from tracehub.runtime.logging import masked, printable
from tracehub.storage.postgres.migrate import migrate


def migrate_database(url: str) -> int:
    """Bring it to this version; the exit status."""
    try:
        asyncio.run(migrate(url))
    except (TraceHubError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        reason = printable(str(error) or type(error).__name__)
        print(f"cannot migrate {masked(url)}: {reason}", file=sys.stderr)
        return 1
    print(f"{masked(url)} is at this version.")
    return 0
