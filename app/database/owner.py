"""Working on the database as the owner of its tables: migrations, tenants, keys, partitions."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.direct import connect_directly
from app.database.engine import create_owner_engine
from app.database.urls import parse_database_url
from app.settings import DatabaseSettings, SettingsError

_VARIABLE = "KONSTRUCT_OWNER_DATABASE_URL"


@asynccontextmanager
async def owner_transaction(settings: DatabaseSettings) -> AsyncIterator[AsyncConnection]:
    """Open a transaction as the owner; commit on exit, roll back on any error.

    Raises `SettingsError` when nothing answers at the owner's address.
    """
    engine = create_owner_engine(_owner_url(settings))
    try:
        with _named_when_unreachable():
            connection = await engine.connect()
        try:
            async with connection.begin():
                yield connection
        finally:
            await connection.close()
    finally:
        await engine.dispose()


@asynccontextmanager
async def owner_connection(settings: DatabaseSettings) -> AsyncIterator[asyncpg.Connection]:
    """Open a driver's connection as the owner, for COPY and for work of many transactions; close it on exit.

    Raises `SettingsError` when nothing answers at the owner's address.
    """
    with _named_when_unreachable():
        connection = await connect_directly(_owner_url(settings), "konstruct-owner")
    try:
        yield connection
    finally:
        await connection.close()


def _owner_url(settings: DatabaseSettings) -> URL:
    return parse_database_url(settings.owner_database_url, _VARIABLE)


@contextmanager
def _named_when_unreachable() -> Iterator[None]:
    """Say whose address it is that nothing answers at."""
    try:
        yield
    except OSError as error:
        raise SettingsError(f"{_VARIABLE}: the database can't be reached: {error}") from None
