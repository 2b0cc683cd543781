"""Working on the database as the owner of its tables: migrations, tenants, keys, partitions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.engine import create_owner_engine
from app.database.urls import parse_database_url
from app.settings import DatabaseSettings, SettingsError


@asynccontextmanager
async def owner_transaction(settings: DatabaseSettings) -> AsyncIterator[AsyncConnection]:
    """Open a transaction as the owner; commit on exit, roll back on any error.

    Raises `SettingsError` when nothing answers at the owner's address.
    """
    engine = create_owner_engine(parse_database_url(settings.owner_database_url, "KONSTRUCT_OWNER_DATABASE_URL"))
    try:
        try:
            connection = await engine.connect()
        except OSError as error:
            reason = f"KONSTRUCT_OWNER_DATABASE_URL: the database can't be reached: {error}"
            raise SettingsError(reason) from None
        try:
            async with connection.begin():
                yield connection
        finally:
            await connection.close()
    finally:
        await engine.dispose()
