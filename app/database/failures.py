"""What the driver reports, as the service errors that callers may see.

Errors are told apart by SQLSTATE, since constraint names do not survive every deployment (Citus reports none).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from asyncpg import InterfaceError, InternalClientError, PostgresError
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.errors import ServiceError, Timeout, TransactionLost, Unavailable

ALL_BUSY = "all database connections are busy; try again in a moment"
CONNECTION_LOST = "the database connection was lost; try again in a moment"
_TOO_LONG = Timeout("the database took too long; ask for less or narrow the filter")

_BY_SQLSTATE: dict[str | None, ServiceError] = {
    "57014": _TOO_LONG,  # query_canceled: by statement_timeout
    "55P03": _TOO_LONG,  # lock_not_available
    "25006": Unavailable("the database takes no writes now, as during a failover; try again in a moment"),
    # A statement prepared before a migration changed a column's type; the next request prepares it anew.
    "0A000": Unavailable("the database's schema has just changed; try again"),
}

# Classes of SQLSTATE after which the same request may well succeed: connection failures, resource shortages,
# operator interventions such as a restart, and serialisation conflicts.
_TRANSIENT_CLASSES = ("08", "53", "57", "40")

# How the driver says, before it sends anything, that a connection can't be used. It does so too when it has read the
# server's farewell and not yet the end of the connection, where `is_closed` still denies it.
_BEFORE_SENDING = ("connection is closed", "not connected", "cannot switch to state", "cannot perform operation")

# SQLSTATEs that say nothing of how a COMMIT ended: connection lost, server going down, statement completion unknown.
_ENDED_UNKNOWN = ("08", "57P", "40003")

DatabaseFailure = SQLAlchemyError | PostgresError | InterfaceError | InternalClientError | OSError


def sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of a driver error, if it has one."""
    for candidate in (error, getattr(error, "orig", None)):
        state = getattr(candidate, "sqlstate", None)
        if isinstance(state, str):
            return state
    return None


def was_sent(error: BaseException) -> bool:
    """Whether a statement that failed so may have reached PostgreSQL."""
    return not (isinstance(error, InterfaceError | InternalClientError) and str(error).startswith(_BEFORE_SENDING))


def may_have_committed(error: BaseException) -> bool:
    """Whether a COMMIT that failed so may have succeeded all the same: it was sent, and no refusal came back."""
    if isinstance(error, PostgresError):
        state = sqlstate(error)
        return state is None or state.startswith(_ENDED_UNKNOWN)
    return was_sent(error)


def translate(error: DatabaseFailure) -> ServiceError | None:
    """Return the service error for a failure that a caller can do something about, else `None`."""
    if isinstance(error, PoolTimeout):
        return Unavailable(ALL_BUSY)
    if isinstance(error, OSError):
        return Unavailable("the database can't be reached; try again in a moment")
    state = sqlstate(error)
    if isinstance(error, IntegrityError):
        return None
    if state in _BY_SQLSTATE:
        known = _BY_SQLSTATE[state]
        return type(known)(known.message)
    # The driver's InterfaceError is a ValueError when a value can't be sent: our mistake, and no lost connection.
    lost = (
        not was_sent(error)
        or (isinstance(error, InterfaceError) and not isinstance(error, ValueError))
        or (isinstance(error, DBAPIError) and error.connection_invalidated)
    )
    if lost or (state is not None and state.startswith(_TRANSIENT_CLASSES)):
        return TransactionLost(CONNECTION_LOST)
    return None


@contextmanager
def translated_failures() -> Iterator[None]:
    """Turn driver failures that callers can act on into service errors; let the others pass."""
    try:
        yield
    except (SQLAlchemyError, PostgresError, InterfaceError, InternalClientError, OSError) as error:
        service_error = translate(error)
        if service_error is None:
            raise
        raise service_error from error
