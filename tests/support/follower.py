"""A client that follows the trail over graphql-transport-ws, as dashboards do."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from websockets import ClientConnection, Subprotocol
from websockets.asyncio.client import connect as open_websocket

from tests.support.patience import PATIENCE_SECONDS
from tests.support.server import LiveServer

FOLLOW = (
    "subscription($filter: AuditEventFilter, $after: BigInt) {"
    " auditEventLogged(filter: $filter, afterSequence: $after) { id sequence actionName } }"
)


@dataclass
class Follower:
    """An open subscription."""

    socket: ClientConnection

    async def message(self, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Return the next message of the protocol; raises `TimeoutError` and `ConnectionClosed`."""
        message: dict[str, Any] = json.loads(await asyncio.wait_for(self.socket.recv(), seconds))
        return message

    async def event(self, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Return the next event."""
        message = await self.message(seconds)
        assert message["type"] == "next", message
        assert "errors" not in message["payload"], message
        event: dict[str, Any] = message["payload"]["data"]["auditEventLogged"]
        return event

    async def is_quiet(self, seconds: float = 1) -> bool:
        """Whether nothing comes for a while."""
        try:
            await self.message(seconds)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def following(
    server: LiveServer,
    api_key: str,
    *,
    after: int | None = None,
    where: dict[str, Any] | None = None,
    document: str = FOLLOW,
) -> AsyncIterator[Follower]:
    """Subscribe; the socket is closed when the block ends."""
    protocol = Subprotocol("graphql-transport-ws")
    async with open_websocket(server.websocket_url, subprotocols=[protocol], open_timeout=PATIENCE_SECONDS) as socket:
        credential = {"authorization": f"Bearer {api_key}"}
        await socket.send(json.dumps({"type": "connection_init", "payload": credential}))
        assert json.loads(await socket.recv()) == {"type": "connection_ack"}
        variables = {"filter": where, "after": after}
        payload = {"query": document, "variables": variables}
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        yield Follower(socket)
