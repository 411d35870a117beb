"""Turns what asyncpg and sockets raise into our own errors (ingest.md §3, Failures).

Transient (costs no try): connection, resources, serialisation, shutdown, disk full, and a schema that is not
there, for that is the operator's trouble and never the entry's. BadData: what the database will never take.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from tracehub.protocol.errors import BadData, LedgerDisagrees, Transient

_TRANSIENT_CLASSES = ("08", "25", "40", "53", "57", "58", "XX", "F0", "3D", "28", "0A")
_TRANSIENT_STATES = frozenset(("55P03", "55006", "42P01", "42501", "42703", "42883", "3F000"))
_BELT = "_belt"


class PartitionGone(Transient):
    """A partition that was there is gone; it will be made again"""


@contextmanager
def translated() -> Iterator[None]:
    """Within this block only Transient, BadData and LedgerDisagrees come out of the driver."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise translate(error) from error
    except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError) as error:
        raise Transient(f"Postgres is not reachable ({type(error).__name__})") from error


def translate(error: asyncpg.PostgresError) -> Exception:
    """One database error as one of ours; its text stays on the inside (`__cause__`)."""
    state = error.sqlstate or ""
    if state == "23505" and (getattr(error, "constraint_name", None) or "").endswith(_BELT):
        return LedgerDisagrees()
    if state == "23514" and not getattr(error, "constraint_name", None):
        return PartitionGone()
    if state in _TRANSIENT_STATES or state[:2] in _TRANSIENT_CLASSES:
        return Transient(f"Postgres says {state}")
    return BadData(f"Postgres refuses the data ({state})")
