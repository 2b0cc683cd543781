"""Alembic's environment: asynchronous, as the owner role, one transaction under one advisory lock.

The whole upgrade is one transaction that first takes an advisory lock, so that replicas which migrate at the same
moment take turns, a killed one leaves nothing behind, and a session pooler in between can't lose the lock.
"""

import asyncio
import re
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql.base import ischema_names

from app.database.engine import create_reflecting_engine
from app.database.migrate import MIGRATION_LOCK, configure_from_settings
from app.database.urls import parse_database_url
from app.models import Base
from app.models.base import Xid8
from app.settings import Settings

_BEYOND_THE_ORM = re.compile(r"audit_events_|kb_chunks_\d|kb_profile_\d+_chunks")
INDEXES_BEYOND_THE_ORM = {"kb_chunks_embedding_idx"}


def include_object(_object: Any, name: str | None, type_: str, reflected: bool, _compare_to: Any) -> bool:  # noqa: FBT001
    """Leave out what the ORM does not describe: partitions, other profiles' passages, the index on an expression."""
    if type_ == "table" and reflected and name is not None and _BEYOND_THE_ORM.match(name):
        return False
    return not (type_ == "index" and name in INDEXES_BEYOND_THE_ORM)


def compare_type(
    _context: MigrationContext, _inspected: Any, _column: Any, inspected: Any, metadata: Any
) -> bool | None:
    """Accept any dimension of a vector: the database fixes it, not the ORM."""
    if type(inspected).__name__ == "VECTOR" and type(metadata).__name__ == "VECTOR":
        return False
    return None


def run_migrations(connection: Connection | None, /, **options: Any) -> None:
    """Run what the command asks for, on a connection or as SQL text."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=include_object,
        compare_type=compare_type,
        compare_server_default=False,
        transaction_per_migration=False,
        **options,
    )
    if connection is not None:
        ischema_names["xid8"] = Xid8
    with context.begin_transaction():
        if connection is not None:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        context.run_migrations()


async def run_with_own_connection(settings: Settings) -> None:
    """Connect as the owner for a command that came in through Alembic's own command line."""
    url = parse_database_url(settings.database.owner_database_url, "KONSTRUCT_OWNER_DATABASE_URL")
    engine = create_reflecting_engine(url)
    async with engine.connect() as connection:
        await connection.run_sync(run_migrations)
        await connection.commit()
    await engine.dispose()


given = context.config.attributes.get("connection")
if given is not None:
    run_migrations(given)
else:
    environment = Settings.from_environment()
    configure_from_settings(context.config, environment)
    if context.is_offline_mode():
        # The default parameter style would double every per cent sign in the functions' bodies.
        run_migrations(None, dialect_name="postgresql", dialect_opts={"paramstyle": "named"}, literal_binds=True)
    else:
        asyncio.run(run_with_own_connection(environment))
