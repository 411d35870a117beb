"""A port that stays ours.

A port that the kernel hands out (`bind` to 0) lies in the range it also uses for outgoing connections: while
our server is down for a moment, a client that keeps reconnecting may be given the very port as its own side
and then talks to itself, and the server finds its port taken. So ports are drawn below that range, and the
choice is remembered in a file, so that it is the same after every restart while nobody else took it.
"""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

FIRST_PORT = 15_000
END_PORT_MAX = 32_768  # where Linux begins its outgoing range unless told otherwise
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
TRIES_MAX = 200
LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback address now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _end_port() -> int:
    try:
        outgoing = int(EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return END_PORT_MAX
    return min(outgoing, END_PORT_MAX) if outgoing > FIRST_PORT + 1_000 else END_PORT_MAX


def free_port() -> int:
    """A port at random that nobody listens on; OSError when two hundred were all taken."""
    span = _end_port() - FIRST_PORT
    for _ in range(TRIES_MAX):
        port = FIRST_PORT + secrets.randbelow(span)
        if is_free(port):
            return port
    raise OSError("no free port found on 127.0.0.1")


def kept_port(note: Path) -> int:
    """The port written in `note` while it is free, else a new one, which is written there."""
    try:
        port = int(note.read_text())
    except (OSError, ValueError):
        port = 0
    if port and is_free(port):
        return port
    port = free_port()
    note.write_text(f"{port}\n")
    return port
