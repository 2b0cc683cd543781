"""Answers leave in as few writes as they can, whole and in order."""

import asyncio
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from app.web.protocol import JoiningProtocol, JoiningTransport


class Wire(asyncio.Transport):
    """Notes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: Any) -> None:
        """Note it."""
        self.writes.append(bytes(data))

    def close(self) -> None:
        """Note it."""
        self.is_closed = True

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.is_closed


def protocol_of(app: ASGIApp, state: ServerState) -> JoiningProtocol:
    """Return the protocol of one connection to an application."""
    config = Config(app, http=JoiningProtocol, log_config=None, server_header=False, date_header=False)
    config.load()
    return JoiningProtocol(config, state, {})


async def written(request: bytes, *messages: Message, pause: bool = False) -> tuple[list[bytes], bool]:
    """Return what an application's messages become on the wire, and whether the connection was closed."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in messages:
            await send(dict(message))
            if pause:
                await asyncio.sleep(0.01)
        done.set()

    done = asyncio.Event()
    state = ServerState()
    protocol = protocol_of(app, state)
    wire = Wire()
    protocol.connection_made(wire)
    protocol.data_received(request)
    await done.wait()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    result = list(wire.writes), wire.is_closed
    protocol.connection_lost(None)
    await asyncio.gather(*state.tasks)
    return result


GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
BODY: Message = {"type": "http.response.body", "body": b"ok"}


async def test_head_and_body_leave_together() -> None:
    """A whole answer is one write."""
    assert await written(GET, START, BODY) == ([HEAD + b"ok"], False)


async def test_a_head_alone_is_not_kept() -> None:
    """The answer to HEAD has no body, and the one that closes is written before the end."""
    assert await written(GET.replace(b"GET", b"HEAD"), START, BODY) == ([HEAD], False)
    closing = GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    head = HEAD.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    assert await written(closing, START, BODY) == ([head + b"ok"], True)
    assert await written(closing.replace(b"GET", b"HEAD"), START, BODY) == ([head], True)


async def test_a_client_that_went_away_gets_nothing() -> None:
    """A head that was kept is forgotten when the connection ends in the same turn."""
    wire = Wire()
    JoiningTransport(wire, asyncio.get_running_loop()).write(HEAD)
    wire.close()
    await asyncio.sleep(0)
    assert wire.writes == []


async def test_what_closes_by_itself_keeps_nothing() -> None:
    """A transport that closes still writes: a head that comes then would else be lost, or behind its body."""
    wire = Wire()
    wire.close()
    transport = JoiningTransport(wire, asyncio.get_running_loop())
    for part in (HEAD, b"ok"):
        transport.write(part)
    assert wire.writes == [HEAD, b"ok"]


async def test_a_client_that_ends_its_side_gets_its_answer() -> None:
    """The transport closes by itself when it has read the end; what is kept goes out before."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(dict(START))
        await send(dict(BODY))

    state = ServerState()
    server = await asyncio.get_running_loop().create_server(lambda: protocol_of(app, state), "127.0.0.1", 0)
    async with server:
        for method, expected in ((b"HEAD", HEAD), (b"GET", HEAD + b"ok")):
            for _ in range(5):
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(GET.replace(b"GET", method))
                writer.write_eof()
                assert await reader.read() == expected
                writer.close()


@pytest.mark.parametrize("first", [b"a\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_streams_leave_as_they_come(first: bytes) -> None:
    """What an answer in parts has sent is on its way, whatever it looks like."""
    start: Message = {"type": "http.response.start", "status": 200, "headers": []}
    parts: list[Message] = [
        {"type": "http.response.body", "body": first, "more_body": True},
        {"type": "http.response.body", "body": b"b", "more_body": False},
    ]
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = [b"%x\r\n%s\r\n" % (len(first), first), b"1\r\nb\r\n0\r\n\r\n"]
    assert await written(GET, start, *parts, pause=True) == ([head, *chunks], False)
    assert await written(GET, start, *parts) == ([head + chunks[0], chunks[1]], False)
