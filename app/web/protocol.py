"""HTTP as uvicorn speaks it, with the head and the body of an answer in one write.

uvicorn writes them one after the other. Each write is a system call of its own that wakes the client, and a small
answer is all but free beside it.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class JoiningTransport:
    """A transport that keeps an HTTP head until its body comes, and no longer than to the event loop's next turn."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.plain = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        """Return what only a transport has."""
        return getattr(self.plain, name)

    def write(self, data: bytes) -> None:
        """Write the data, or keep it for a moment."""
        if self._head:
            head, self._head = self._head, b""
            self.plain.write(head + data)
        elif _is_head(data) and not self.plain.is_closing():
            self._head = data
            self._loop.call_soon(self.flush)
        else:
            self.plain.write(data)

    def close(self) -> None:
        """Close the connection when all is written."""
        self.flush()
        self.plain.close()

    def flush(self) -> None:
        """Write what is kept."""
        head, self._head = self._head, b""
        # The client may have gone away meanwhile.
        if head and not self.plain.is_closing():
            self.plain.write(head)


def _is_head(data: object) -> bool:
    return isinstance(data, bytes) and data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n")


class JoiningProtocol(HttpToolsProtocol):
    """One HTTP connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a connection that a client has opened."""
        super().connection_made(transport)
        self._joining = JoiningTransport(transport, self.loop)
        self.transport = self._joining  # type: ignore[assignment]

    def eof_received(self) -> None:
        """Write what is kept before the plain transport closes itself: a client that ends its side still reads."""
        self._joining.flush()

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to the protocol of WebSockets, as it is."""
        self._joining.flush()
        self.transport = self._joining.plain
        super().handle_websocket_upgrade()
