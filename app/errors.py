"""What can go wrong, as the caller should hear of it: one class and one stable code per kind.

Two families. A `UserMistake` is an expected mistake in what the caller sent: in a mutation it becomes an entry of
`userErrors`, elsewhere a request error with the code BAD_USER_INPUT. Every other `ServiceError` ends the request.
Codes are contract; messages are prose and may change.
"""

from typing import ClassVar

Path = tuple[str | int, ...]

# All that a caller hears of an error that is none of the kinds below.
INTERNAL_MESSAGE = "an internal error occurred; the operator finds it in the log by the request id"
# What follows for a caller whose change may have been committed or not.
MAY_BE_STORED = "the change may or may not be stored; look before you try again, or send events with an idempotency key"


class ServiceError(Exception):
    """Base of all errors that may be shown to a caller."""

    code: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Unauthenticated(ServiceError):
    """No credential, or one that is not valid (any more)."""

    code = "UNAUTHENTICATED"


class Forbidden(ServiceError):
    """The credential is valid but lacks the scope."""

    code = "FORBIDDEN"


class QueryTooComplex(ServiceError):
    """The GraphQL document asks for more work than one request may."""

    code = "QUERY_TOO_COMPLEX"


class Timeout(ServiceError):
    """The database took longer than the configured limit."""

    code = "TIMEOUT"


class Unavailable(ServiceError):
    """The database or a provider can't serve the request now; trying again later may help."""

    code = "UNAVAILABLE"


class TransactionLost(Unavailable):
    """The transaction was undone by no fault of its own, such as a lost connection; it may be run again."""


class CommitUnknown(Unavailable):
    """Nobody knows how the commit ended: what was written is stored as a whole or not at all."""


class NotFound(ServiceError):
    """No such row in the caller's tenant (a row of another tenant answers the same)."""

    code = "NOT_FOUND"


class UserMistake(ServiceError):
    """An expected mistake in what the caller sent.

    `path` leads to the offending input, from the input's root, in the API of this package (snake_case);
    `reason` is the sentence without that path.
    """

    code = "BAD_USER_INPUT"
    user_code: ClassVar[str] = "INVALID_INPUT"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{format_path(path)}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


class InvalidInput(UserMistake):
    """A value that is out of range, malformed or can't be stored."""


class CursorMismatch(UserMistake):
    """A page cursor used with another list, filter or order than the one that made it."""

    code = "CURSOR_MISMATCH"


class PayloadTooLarge(UserMistake):
    """A value that is larger than the configured limit."""

    user_code = "PAYLOAD_TOO_LARGE"


class AgentNotAllowed(UserMistake):
    """The credential is bound to one agent and the event names another."""

    user_code = "AGENT_NOT_ALLOWED"


class IdempotencyConflict(UserMistake):
    """The idempotency key was used before with another body."""

    user_code = "IDEMPOTENCY_CONFLICT"


class VersionConflict(UserMistake):
    """The document has moved on from the version that the caller expected."""

    user_code = "VERSION_CONFLICT"


class DocumentNotFound(UserMistake):
    """The document to change is not in the caller's tenant."""

    user_code = "NOT_FOUND"


class EmbeddingFailed(UserMistake):
    """The embedding provider refused or did not answer in time."""

    user_code = "EMBEDDING_FAILED"


class EmbeddingDimensionMismatch(UserMistake):
    """A vector of another length than the index was built for."""

    user_code = "EMBEDDING_DIMENSION_MISMATCH"

    def __init__(self, path: Path, *, expected: int, actual: int) -> None:
        super().__init__(path, f"expected a vector of {expected} numbers, got {actual}")
        self.expected = expected
        self.actual = actual


def format_path(path: Path) -> str:
    """Write a path as people do: `body.chunks[2].embedding`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text
