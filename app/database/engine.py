"""The connection pool of the runtime role."""

from typing import Any

from sqlalchemy import URL, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from app.database.silence import end_when_silent
from app.settings import DatabaseSettings
from app.validation import JsonText


def _json_text(value: Any) -> str:
    if isinstance(value, JsonText):
        return value
    raise TypeError(f"JSON columns take JsonText, not {type(value).__name__}; see check_json_object")


def create_runtime_engine(url: URL, settings: DatabaseSettings) -> AsyncEngine:
    """Create the pool that requests use. JSON columns read and write `JsonText`, never parsed values."""
    engine = create_async_engine(
        url,
        # Bound values are the clients' content and have no place in an error or a log.
        hide_parameters=True,
        # Transactions are begun and ended by tenant sessions alone; see app.database.session.
        isolation_level="AUTOCOMMIT",
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=settings.database_pool_timeout_seconds,
        json_serializer=_json_text,
        json_deserializer=JsonText,
        connect_args={
            "timeout": 10,
            "server_settings": {
                "application_name": "konstruct",
                "statement_timeout": str(int(settings.database_statement_timeout_seconds * 1000)),
                "idle_in_transaction_session_timeout": "60000",
                # JIT compilation costs more than it brings for queries of a few milliseconds.
                "jit": "off",
                "TimeZone": "UTC",
            },
        },
    )
    event.listen(engine.sync_engine, "connect", _end_when_silent)
    event.listen(engine.sync_engine, "checkout", _refuse_closed_connection)
    event.listen(engine.sync_engine, "reset", _refuse_open_transaction)
    return engine


def create_reflecting_engine(url: URL) -> AsyncEngine:
    """Create an engine that may inspect the schema, for which SQLAlchemy needs JSON parsed as it does by itself."""
    return create_async_engine(url, poolclass=NullPool, hide_parameters=True)


def create_owner_engine(url: URL) -> AsyncEngine:
    """Create an engine without a pool, for migrations and the command line."""
    return create_async_engine(
        url,
        hide_parameters=True,
        poolclass=NullPool,
        json_serializer=_json_text,
        json_deserializer=JsonText,
        connect_args={
            "timeout": 10,
            "server_settings": {"application_name": "konstruct-owner", "TimeZone": "UTC"},
        },
    )


def _end_when_silent(dbapi_connection: Any, _entry: ConnectionPoolEntry) -> None:
    end_when_silent(dbapi_connection.driver_connection)


def _refuse_closed_connection(dbapi_connection: Any, _entry: ConnectionPoolEntry, _proxy: object) -> None:
    # The driver has seen the server close the socket (restart, failover, pg_terminate_backend): the pool then
    # replaces the connection before a statement is lost on it. It asks memory only, unlike a ping.
    if dbapi_connection.driver_connection.is_closed():
        raise DisconnectionError("closed by the server while idle")


def _refuse_open_transaction(dbapi_connection: Any, _entry: ConnectionPoolEntry, _state: object) -> None:
    # A connection never goes back into the pool inside a transaction: its next borrower would write into it unseen.
    # The pool throws the connection away when this fails.
    driver = dbapi_connection.driver_connection
    if not driver.is_closed() and driver.is_in_transaction():
        raise DisconnectionError("given back inside a transaction")
