"""What the log mutations answer."""

from typing import Self

import strawberry

from app.audit.recording import LogResult
from graphql_schema.audit.enums import LogOutcome
from graphql_schema.audit.types import AuditEvent, AuditEventRow
from graphql_schema.context import Context
from graphql_schema.user_errors import UserError, log_errors


@strawberry.type(description="What became of the event.")
class LogEventPayload:
    """Answer of the three single log mutations."""

    event: AuditEvent | None = strawberry.field(
        description="The recorded event, or the first one when it is a duplicate; null when it was rejected."
    )
    outcome: LogOutcome = strawberry.field(description="Whether it was recorded.")
    user_errors: list[UserError] = strawberry.field(description="Why it was rejected; empty when it was not.")

    @classmethod
    def from_result(cls, context: Context, result: LogResult) -> Self:
        """Show the outcome."""
        return cls(event=_event(result), outcome=result.outcome, user_errors=log_errors(context, result))


@strawberry.type(description="What became of one event of a batch.")
class LogEventResult:
    """One item of the answer of `logEvents`."""

    event: AuditEvent | None = strawberry.field(
        description="The recorded event, or the first one when it is a duplicate; null when it was rejected."
    )
    outcome: LogOutcome = strawberry.field(description="Whether it was recorded.")
    user_errors: list[UserError] = strawberry.field(description="Why it was rejected; empty when it was not.")


@strawberry.type(description="What became of the events of a batch.")
class LogEventsPayload:
    """Answer of `logEvents`."""

    results: list[LogEventResult] = strawberry.field(description="One result an event, in the order they were sent.")
    recorded_count: int = strawberry.field(description="How many events are new in the trail.")
    duplicate_count: int = strawberry.field(description="How many were recorded before.")
    rejected_count: int = strawberry.field(description="How many were not recorded.")
    user_errors: list[UserError] = strawberry.field(
        description="The mistakes of all items, each with its index, and of the batch as a whole."
    )

    @classmethod
    def from_results(cls, context: Context, results: list[LogResult], *, with_items: bool) -> Self:
        """Show the outcomes; one by one if somebody will look at them."""
        errors = [
            [] if result.mistake is None else log_errors(context, result, index) for index, result in enumerate(results)
        ]
        items = [
            LogEventResult(event=_event(result), outcome=result.outcome, user_errors=own)
            for result, own in zip(results if with_items else (), errors, strict=False)
        ]
        outcomes = [result.outcome for result in results]
        return cls(
            results=items,
            recorded_count=outcomes.count(LogOutcome.RECORDED),
            duplicate_count=outcomes.count(LogOutcome.DUPLICATE),
            rejected_count=outcomes.count(LogOutcome.REJECTED),
            user_errors=[error for own in errors for error in own],
        )


def _event(result: LogResult) -> AuditEvent | None:
    row = result.new_row
    if row is not None:
        shown: AuditEvent = AuditEventRow.from_row(row)
        return shown
    if result.event is None or result.outcome is LogOutcome.REJECTED:
        return None
    return AuditEvent.from_event(result.event)
