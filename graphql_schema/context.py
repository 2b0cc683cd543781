"""What a resolver has at hand: the caller, the services, and tenant sessions."""

import asyncio
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any
from uuid import UUID

import strawberry
from starlette.websockets import WebSocket, WebSocketDisconnect
from strawberry.dataloader import DataLoader

from app.audit import AuditLogger
from app.audit.live import LiveTrail
from app.audit.query import find_events
from app.audit.writer import EventWriter
from app.auth.backend import Authenticator
from app.auth.principal import Principal, Scope
from app.database.database import Database
from app.database.session import TenantSession
from app.database.tenant_owned import TenantId
from app.errors import Unauthenticated
from app.kb.documents import find_documents
from app.kb.ingest import DocumentIngester
from app.kb.profiles import Embeddings
from app.observability.metrics import Metrics
from app.observability.request import RequestRecord
from app.settings import Limits


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the product that resolvers call, one set a process."""

    database: Database
    writer: EventWriter
    authenticator: Authenticator
    live: LiveTrail
    embeddings: Embeddings
    ingester: DocumentIngester
    metrics: Metrics
    limits: Limits
    # Whether searches by agents are recorded in the trail.
    audit_retrievals: bool = False


class CloseCode(IntEnum):
    """Why a WebSocket is closed by the product, beyond what the protocol says itself."""

    FORBIDDEN = 4403
    SLOW_CONSUMER = 4410


async def _close(websocket: WebSocket, code: CloseCode, reason: str) -> None:
    # The client may have gone by itself.
    with suppress(RuntimeError, WebSocketDisconnect):
        await websocket.close(code, reason)


@dataclass(slots=True)
class Context:
    """One request, or one operation of a WebSocket connection."""

    services: Services
    record: RequestRecord
    principal: Principal | None = None
    connection_params: dict[str, Any] | None = None
    authorization: str | None = None
    websocket: WebSocket | None = None
    # The run and the conversation that the request belongs to, by its headers.
    trace_id: str | None = None
    session_id: str | None = None
    _closing: asyncio.Task[None] | None = None
    _loaders: dict[str, DataLoader[UUID, Any]] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        """The limits of this installation."""
        return self.services.limits

    async def authenticate(self, authorization: str | None) -> None:
        """Prove who is calling; raises `Unauthenticated`.

        A WebSocket lives longer than a credential may, so each of its operations proves the same credential again.
        """
        try:
            # The principal stays while the look-up is under way: other operations of the connection are using it.
            principal = await self.services.authenticator.authenticate(authorization)
        except Unauthenticated:
            self.principal = None
            raise
        self.authorization = authorization
        self.principal = principal
        self.record.tenant_id = str(principal.tenant_id)
        self.record.subject = principal.subject

    async def prove_again(self) -> None:
        """Prove the same credential again, as what goes on for long must; raises `Unauthenticated`, and hangs up."""
        try:
            await self.authenticate(self.authorization)
        except Unauthenticated:
            self.close(CloseCode.FORBIDDEN, "the credential is not valid any more")
            raise

    def close(self, code: "CloseCode", reason: str) -> None:
        """Hang up, if this is a WebSocket, without waiting for it."""
        if self.websocket is not None and self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(_close(self.websocket, code, reason))

    def require(self, scope: Scope) -> Principal:
        """Return the caller; raise `Unauthenticated` or `Forbidden` unless the credential has the scope."""
        caller = self.caller
        caller.require(scope)
        return caller

    @property
    def tenant_id(self) -> TenantId | None:
        """The caller's tenant, if there is a caller."""
        return None if self.principal is None else self.principal.tenant_id

    @property
    def caller(self) -> Principal:
        """The caller; raises `Unauthenticated` when there is none."""
        if self.principal is None:
            raise Unauthenticated("a credential is missing; send the header `Authorization: Bearer <API key>`")
        return self.principal

    def tenant_session(self) -> AbstractAsyncContextManager[TenantSession]:
        """Open a session of the caller's tenant that may write."""
        return self.services.database.tenant_session(self.caller.tenant_id)

    def reading_session(self) -> AbstractAsyncContextManager[TenantSession]:
        """Open a session that reads; one a root field, since sibling fields run concurrently."""
        return self.services.database.reading_session(self.caller.tenant_id)

    def analysis_session(self) -> AbstractAsyncContextManager[TenantSession]:
        """Open a session for a question that may take long, so that short ones need not wait for it."""
        return self.services.database.analysis_session(self.caller.tenant_id)

    def audit_logger(self, *, echo_metadata: bool) -> AuditLogger:
        """Return the logger that records under the caller's credential."""
        services = self.services
        return AuditLogger(
            services.database,
            self.require(Scope.AUDIT_WRITE),
            self.limits,
            services.writer,
            echo_metadata=echo_metadata,
        )

    @property
    def events(self) -> DataLoader[UUID, Any]:
        """Load events by id, all that one answer needs in one query; foreign and missing ones are `None`."""
        return self._loader("events", find_events)

    @property
    def documents(self) -> DataLoader[UUID, Any]:
        """Load documents by id, all that one answer needs in one query; foreign and missing ones are `None`."""
        return self._loader("documents", find_documents)

    def _loader(self, name: str, find: Any) -> DataLoader[UUID, Any]:
        async def load(ids: list[UUID]) -> list[Any]:
            unique: Iterable[UUID] = dict.fromkeys(ids)
            async with self.reading_session() as session:
                found = await find(session, unique)
            return [found.get(row_id) for row_id in ids]

        if name not in self._loaders:
            self._loaders[name] = DataLoader(load_fn=load, cache=False)
        return self._loaders[name]


Info = strawberry.Info[Context, None]
