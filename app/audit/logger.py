"""`AuditLogger`: how agents' actions get into the trail, from the GraphQL API and from Python alike.

    logger = AuditLogger(database, principal, limits)
    await logger.log_llm_call(LlmCall(model="gpt-4o", input_summary="Refund for order 1042?"))

Inside a tenant session of the caller's own, the event commits or rolls back with the caller's work:

    async with database.tenant_session(principal.tenant_id) as session:
        ...
        await logger.within(session).log_tool_call(ToolCall(tool_name="issue_refund"))
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from app.audit.append import append_events
from app.audit.events import AuditEventValue, Escalation, LlmCall, ToolCall
from app.audit.recording import LogOutcome, LogResult, PreparedEvent
from app.audit.writer import EventWriter
from app.database.database import Database
from app.database.session import TenantSession
from app.database.tenant_owned import TenantId
from app.errors import AgentNotAllowed, InvalidInput, UserMistake
from app.settings import Limits
from app.validation import check_json_object, check_size


class Author(Protocol):
    """Who writes: a credential of one tenant, bound to one agent or to none (`app.auth.principal.Principal` is one)."""

    @property
    def tenant_id(self) -> TenantId:
        """The tenant in whose trail the events go."""

    @property
    def subject(self) -> str:
        """The credential's name, which each event carries."""

    @property
    def agent_id(self) -> UUID | None:
        """The only agent that the credential may speak for, if it is bound to one."""


@dataclass(frozen=True, slots=True)
class AuditLogger:
    """Records events under one credential. Every result is acknowledged after its commit, unless `within` a session.

    With a `writer`, concurrent events of a tenant share a transaction; without one, each call has its own.
    """

    database: Database
    author: Author
    limits: Limits
    writer: EventWriter | None = None
    session: TenantSession | None = None
    # Whether the metadata of results must be the text that the database made of it, and not just mean the same.
    echo_metadata: bool = True

    def within(self, session: TenantSession) -> "AuditLogger":
        """Return a logger that writes in the given tenant session and leaves the commit to its owner.

        Raises `ValueError` when the session is another tenant's.
        """
        if session.tenant_id != self.author.tenant_id:
            raise ValueError("the session belongs to another tenant than the author")
        return replace(self, session=session)

    async def log_llm_call(self, call: LlmCall) -> LogResult:
        """Record a call of a language model."""
        return await self._log(call)

    async def log_tool_call(self, call: ToolCall) -> LogResult:
        """Record an invocation of a tool."""
        return await self._log(call)

    async def log_escalation(self, escalation: Escalation) -> LogResult:
        """Record a hand-over to a person, another agent or a queue."""
        return await self._log(escalation)

    async def log_events(
        self, events: Sequence[AuditEventValue | UserMistake], *, atomic: bool = False
    ) -> list[LogResult]:
        """Record a batch in one transaction; return one result an event, in the same order.

        A bad event (or a mistake in the place of an event that could not be built) is rejected alone, or, when
        `atomic`, rejects the batch: then nothing is stored. Raises `InvalidInput` for an empty or too large batch.
        """
        if not 1 <= len(events) <= self.limits.events_per_batch:
            raise InvalidInput(
                ("events",),
                f"must hold between 1 and {self.limits.events_per_batch} events, got {len(events)}",
            )
        prepared = [self._prepare(event) for event in events]
        good = [event for event in prepared if isinstance(event, PreparedEvent)]
        if atomic and len(good) < len(prepared):
            return [_rejected(event) for event in prepared]
        try:
            written = iter(await self._write(good, atomic=atomic))
        except _AtomicBatchRejected as rejected:
            return rejected.results
        return [next(written) if isinstance(event, PreparedEvent) else _rejected(event) for event in prepared]

    async def _log(self, event: AuditEventValue) -> LogResult:
        prepared = self._prepare(event)
        if isinstance(prepared, UserMistake):
            return LogResult(LogOutcome.REJECTED, mistake=prepared)
        return (await self._write([prepared]))[0]

    async def _write(self, events: Sequence[PreparedEvent], *, atomic: bool = False) -> list[LogResult]:
        if not events:
            return []
        if self.writer is not None and self.session is None and not atomic:
            return await self.writer.write(self.author.tenant_id, events)
        async with self._transaction() as session:
            results = await append_events(session, events)
            if atomic and any(result.outcome is LogOutcome.REJECTED for result in results):
                raise _AtomicBatchRejected(_undone(results))
        return results

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[TenantSession]:
        if self.session is None:
            async with self.database.tenant_session(self.author.tenant_id) as session:
                yield session
        else:
            async with self.session.savepoint():
                yield self.session

    def _prepare(self, event: AuditEventValue | UserMistake) -> PreparedEvent | UserMistake:
        if isinstance(event, UserMistake):
            return event
        limits = self.limits
        try:
            for names, max_bytes in ((event.text_fields, limits.summary_bytes), (event.name_fields, limits.name_bytes)):
                for name in names:
                    if (text := getattr(event, name)) is not None and len(text) * 4 > max_bytes:
                        check_size((name,), text, max_bytes)
            metadata = check_json_object(
                ("metadata",),
                event.recorded_metadata,
                max_bytes=limits.metadata_bytes,
                max_depth=limits.metadata_depth,
            )
            agent_id = event.agent_id or self.author.agent_id
            if self.author.agent_id is not None and agent_id != self.author.agent_id:
                raise AgentNotAllowed(
                    ("agent_id",),
                    "this credential is bound to another agent; leave the field out or use its own agent",
                )
        except UserMistake as mistake:
            return mistake
        return PreparedEvent.from_value(event, agent_id, metadata, self.author.subject, echo=self.echo_metadata)


class _AtomicBatchRejected(Exception):
    """Rolls the transaction back and carries the results out."""

    def __init__(self, results: list[LogResult]) -> None:
        super().__init__("atomic batch rejected")
        self.results = results


def _rejected(event: PreparedEvent | UserMistake) -> LogResult:
    return LogResult(LogOutcome.REJECTED, mistake=event if isinstance(event, UserMistake) else _BATCH_REJECTED)


def _undone(results: Sequence[LogResult]) -> list[LogResult]:
    """Return what is left of the results when the batch is rolled back: only what was there before it."""
    written = {result.event.id for result in results if result.event and result.outcome is LogOutcome.RECORDED}
    return [
        LogResult(LogOutcome.REJECTED, mistake=result.mistake or _BATCH_REJECTED)
        if result.event is not None and result.event.id in written
        else result
        for result in results
    ]


_BATCH_REJECTED = InvalidInput((), "not recorded, because another event of this atomic batch was rejected")
