"""What every answer carries: headers of caution, and the request's id, echoed when it is printable, else made."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tracehub.protocol import ids
from tracehub.runtime.clock import random_bytes

HYGIENE = ((b"x-content-type-options", b"nosniff"), (b"x-frame-options", b"DENY"))
_PRINTABLE = re.compile(rb"[!-~]{1,128}").fullmatch


def request_id_of(given: bytes) -> bytes:
    """The id of an answer, when its request gave this one (or none)."""
    return given if _PRINTABLE(given) else ids.request_id(random_bytes(16)).encode()


def rendered(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Header lines as they are sent."""
    return b"".join(b"%s: %s\r\n" % header for header in headers)
