"""Following the trail live."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Annotated

import strawberry

from app.audit.filter import AuditEventFilter
from app.auth.principal import Scope
from graphql_schema.audit.queries import Filter
from graphql_schema.audit.types import AuditEvent
from graphql_schema.context import CloseCode, Context, Info
from graphql_schema.scalars import BigInt

# A client that takes longer for one event is cut off; it has lost nothing and goes on from its last sequence.
_SLOW_SECONDS = 30.0
_CHECK_SECONDS = 2.0


@strawberry.type
class AuditSubscriptions:
    """Root subscription fields of the audit trail."""

    @strawberry.subscription(
        description=(
            "The events of your tenant as they are sealed, about a second after they were recorded, each once and in"
            " the order of their `sequence`. After a break go on with `afterSequence`: what came meanwhile comes first."
            " Needs the scope AUDIT_READ. When the credential is revoked, the operation ends with the error"
            " UNAUTHENTICATED and the WebSocket is closed with 4403; a client that takes more than 30 seconds for an"
            " event is cut off with 4410."
        )
    )
    async def audit_event_logged(
        self,
        info: Info,
        filter: Filter = None,
        after_sequence: Annotated[
            BigInt | None,
            strawberry.argument(
                description=(
                    "Begin after this place of the log: the last `sequence` you have seen, or -1 for the first event."
                    " When left out, with what is sealed from now on; to lose nothing in a break before the first"
                    " event, begin with a place: the greatest `sequence` of `auditEvents`."
                )
            ),
        ] = None,
    ) -> AsyncGenerator[AuditEvent, None]:
        """Yield the events."""
        context = info.context
        caller = context.require(Scope.AUDIT_READ)
        where = AuditEventFilter() if filter is None else filter.to_filter()
        clock = asyncio.get_running_loop().time
        checked_at = clock()
        following = context.services.live.follow(caller.tenant_id, where, after_sequence, context.limits)
        async with aclosing(following):
            async for event in following:
                if clock() - checked_at >= _CHECK_SECONDS:
                    await context.prove_again()
                    checked_at = clock()
                if event is not None:
                    with _cut_off_when_slow(context):
                        yield AuditEvent.from_event(event)


@contextmanager
def _cut_off_when_slow(context: Context) -> Iterator[None]:
    """Close the connection when the block, in which the client takes its event, lasts too long."""
    timer = asyncio.get_running_loop().call_later(
        _SLOW_SECONDS, context.close, CloseCode.SLOW_CONSUMER, "too slow; go on with afterSequence"
    )
    try:
        yield
    finally:
        timer.cancel()
