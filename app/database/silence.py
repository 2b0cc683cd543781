"""Connections whose other side falls silent, as when a machine or a network is gone without a word.

Left to the kernel's defaults, who waits for an answer on such a connection waits for a quarter of an hour or more.
"""

import socket

import asyncpg

_SECONDS = 30
_OPTIONS = {
    # Unanswered for so long after something was sent (Linux, in milliseconds).
    "TCP_USER_TIMEOUT": _SECONDS * 1000,
    # While nothing is sent, a sign of life is asked for now and then.
    "TCP_KEEPIDLE": _SECONDS // 2,
    "TCP_KEEPINTVL": _SECONDS // 6,
    "TCP_KEEPCNT": 3,
}


def end_when_silent(connection: asyncpg.Connection) -> None:
    """Let the operating system end the connection after half a minute without a sign of life from the other side."""
    transport = connection._transport  # type: ignore[attr-defined]  # noqa: SLF001 - the driver has no other way
    end = transport.get_extra_info("socket")
    if end.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS.items():
        # Not every system has all of them.
        if (option := getattr(socket, name, None)) is not None:
            end.setsockopt(socket.IPPROTO_TCP, option, value)
