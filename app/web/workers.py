"""One port for several worker processes, each of which has its own share of the clients.

Where processes accept from one queue, the first to look may take all that wait: clients that keep their connections
then stay with one worker while the others idle. With a listening socket each (SO_REUSEPORT) the kernel spreads them.
"""

import socket
from typing import Any

from uvicorn import Config
from uvicorn.supervisors import Multiprocess


class SharedPort(socket.socket):
    """Holds a port without listening; what a process gets of it, when it starts, is a socket of its own."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how the other process makes its own."""
        return _own_socket, (self.family, self.getsockname())


def take_port(host: str, port: int) -> SharedPort:
    """Bind an address, 0 for any free port. Raises `OSError` when somebody else has it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without the option first: with it, the port of another server would be shared too.
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        address = probe.getsockname()
    port_of_all = SharedPort(family)
    _bind_beside_others(port_of_all, address)
    return port_of_all


def run_workers(config: Config, port: SharedPort) -> None:
    """Run the worker processes until a signal ends them."""
    with port:
        Multiprocess(config, sockets=[port]).run()


def _own_socket(family: int, address: Any) -> socket.socket:
    own = socket.socket(family)
    _bind_beside_others(own, address)
    return own


def _bind_beside_others(given: socket.socket, address: Any) -> None:
    given.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    given.bind(address)
