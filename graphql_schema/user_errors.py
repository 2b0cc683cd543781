"""Expected mistakes of mutations, as data beside the result."""

from enum import StrEnum
from typing import Any

import strawberry

from app.audit.recording import LogResult
from app.auth.principal import Scope
from app.errors import EmbeddingDimensionMismatch, IdempotencyConflict, UserMistake
from graphql_schema.audit.types import AuditEvent
from graphql_schema.context import Context
from graphql_schema.enums import graphql_enum
from graphql_schema.errors import api_path, mistake_message


class UserErrorCode(StrEnum):
    """Stable codes of user errors."""

    INVALID_INPUT = "INVALID_INPUT"
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT"
    AGENT_NOT_ALLOWED = "AGENT_NOT_ALLOWED"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    NOT_FOUND = "NOT_FOUND"
    EMBEDDING_DIMENSION_MISMATCH = "EMBEDDING_DIMENSION_MISMATCH"
    EMBEDDING_FAILED = "EMBEDDING_FAILED"
    VERSION_CONFLICT = "VERSION_CONFLICT"


graphql_enum(
    UserErrorCode,
    name="UserErrorCode",
    description="The kinds of expected mistake. New kinds may be added.",
    values={
        "INVALID_INPUT": "A value is malformed, out of range or can't be stored; `path` says which.",
        "IDEMPOTENCY_CONFLICT": "The idempotency key was used before with another body.",
        "AGENT_NOT_ALLOWED": "The credential is bound to one agent and the event names another.",
        "PAYLOAD_TOO_LARGE": "A value is larger than this installation's limit; the message says the limit.",
        "NOT_FOUND": "There is no such document in this tenant.",
        "EMBEDDING_DIMENSION_MISMATCH": "A vector has another length than the index was built for.",
        "EMBEDDING_FAILED": "The embedding provider refused or did not answer; nothing was stored.",
        "VERSION_CONFLICT": "The document has moved on from `expectedVersion`.",
    },
)


@strawberry.interface(description="An expected mistake in what was sent. Nothing was stored for the item it is about.")
class UserError:
    """What all user errors have."""

    code: UserErrorCode = strawberry.field(description="What kind of mistake it is; stable, for programs.")
    message: str = strawberry.field(description="What is wrong and how to mend it; for people.")
    path: list[str] | None = strawberry.field(
        description='Where in the item\'s input it is wrong, such as `["metadata", "score"]`.'
    )
    index: int | None = strawberry.field(description="Which item of a batch it is about, counted from 0.")


@strawberry.type(description="A mistake that needs no further explanation than its message.")
class InvalidInputError(UserError):
    """The general user error."""


@strawberry.type(description="The idempotency key stands for an earlier event with another body.")
class IdempotencyConflictError(UserError):
    """A conflict, with the event that was first."""

    existing: AuditEvent = strawberry.field(description="The event that the key stands for; it is unchanged.")


@strawberry.type(description="A vector has another length than the index was built for.")
class EmbeddingDimensionMismatchError(UserError):
    """A wrong vector, with both lengths."""

    expected: int = strawberry.field(description="How many numbers a vector must have here.")
    actual: int = strawberry.field(description="How many numbers were sent.")


def user_errors(mistake: UserMistake | None, index: int | None = None) -> list[UserError]:
    """Return the user errors of one item: none, or the one mistake."""
    if mistake is None:
        return []
    common: dict[str, Any] = {
        "code": UserErrorCode(mistake.user_code),
        "message": mistake_message(mistake),
        "path": api_path(mistake.path) or None,
        "index": index,
    }
    if isinstance(mistake, EmbeddingDimensionMismatch):
        return [EmbeddingDimensionMismatchError(**common, expected=mistake.expected, actual=mistake.actual)]
    return [InvalidInputError(**common)]


def log_errors(context: Context, result: LogResult, index: int | None = None) -> list[UserError]:
    """Return the user errors of one event, with the earlier event where there was a conflict.

    A credential that may only write is told of the conflict, but not shown an event that it need not have sent.
    """
    may_read = Scope.AUDIT_READ in context.caller.scopes
    if isinstance(result.mistake, IdempotencyConflict) and result.event is not None and may_read:
        return [
            IdempotencyConflictError(
                code=UserErrorCode.IDEMPOTENCY_CONFLICT,
                message=mistake_message(result.mistake),
                path=api_path(result.mistake.path),
                index=index,
                existing=AuditEvent.from_event(result.event),
            )
        ]
    return user_errors(result.mistake, index)
