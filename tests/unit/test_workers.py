"""The port that several worker processes share."""

import socket
from multiprocessing.reduction import ForkingPickler

import pytest

from app.web.workers import SharedPort, take_port


def as_in_a_worker(port: SharedPort) -> socket.socket:
    """Return what a process gets that is started with the port."""
    own: socket.socket = ForkingPickler.loads(ForkingPickler.dumps(port))
    own.listen(200)
    own.setblocking(False)
    return own


def accepted(listener: socket.socket) -> int:
    """Return how many connections wait for a worker."""
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def test_each_worker_gets_its_share_of_the_clients() -> None:
    """A hundred connections are spread over two workers, and none waits where nobody accepts."""
    with take_port("127.0.0.1", 0) as port, as_in_a_worker(port) as first, as_in_a_worker(port) as second:
        assert first.getsockname() == second.getsockname() == port.getsockname()
        clients = [socket.create_connection(port.getsockname()[:2]) for _ in range(100)]
        shares = accepted(first), accepted(second)
        for client in clients:
            client.close()
    assert sum(shares) == 100
    assert min(shares) > 10


@pytest.mark.parametrize("shared", [True, False])
def test_the_port_of_another_server_is_not_shared(shared: bool) -> None:
    """Whether it has one worker or several: who comes second is told that the port is taken."""
    if shared:
        with take_port("127.0.0.1", 0) as port, as_in_a_worker(port), pytest.raises(OSError, match="in use"):
            take_port("127.0.0.1", port.getsockname()[1])
    else:
        with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
            take_port("127.0.0.1", other.getsockname()[1])
