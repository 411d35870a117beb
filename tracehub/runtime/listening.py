"""Sockets that listen, opened before a server is there to accept."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Final

BACKLOG: Final = 2_048  # connections that wait to be accepted


class ListenError(Exception):
    """A port that we cannot listen on; the message is one line that names its setting."""


def listening(host: str, ports: Mapping[str, int]) -> list[socket.socket]:
    """Sockets on all addresses of a host, at each of these ports, by the settings that name them.

    They listen already: that a port is taken, also by another one of these, is known now. Raises ListenError.
    """
    opened: list[socket.socket] = []
    for setting, port in ports.items():
        try:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, address in dict.fromkeys((family, address) for family, *_, address in found):
                opened.append(socket.create_server(address, family=family, backlog=BACKLOG))
        except OSError as error:
            for one in opened:
                one.close()
            reason = (error.strerror or "").partition(" (")[0]  # the rest is the address once more
            raise ListenError(f"cannot listen on {host} at {setting} {port}: {reason}") from error
    return opened
