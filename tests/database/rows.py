"""Rows of tenants, and attempts at statements, for the tests that speak SQL."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from app.database.embedded import EmbeddedPostgres
from app.settings import Settings
from tests.support.database import DIMENSIONS

# The tables with tenant rows that the runtime role may read; a catalogue test keeps this list complete.
READABLE_TABLES = (
    "audit_events",
    "audit_idempotency_keys",
    "audit_log_leaves",
    "audit_log_states",
    "kb_chunks",
    "kb_documents",
)
# Those that it may also write; the sealer writes the others.
WRITABLE_TABLES = ("audit_events", "audit_idempotency_keys", "kb_chunks", "kb_documents")

INSUFFICIENT_PRIVILEGE = "42501"

_INSERT_EVENT = """
INSERT INTO audit_events (tenant_id, id, action_type, status, submitted_by)
VALUES ($1, $2, 'llm_call', 'succeeded', 'test-key')
"""
_INSERT_KEY = "INSERT INTO audit_idempotency_keys (tenant_id, key, event_id, body_hash) VALUES ($1, $2, $3, $4)"
_INSERT_DOCUMENT = """
INSERT INTO kb_documents (tenant_id, id, external_id, title, mime_type, version, content_hash, chunk_count)
VALUES ($1, $2, $3, 'Title', 'text/plain', 1, 'hash', 1)
"""
_INSERT_CHUNK = f"""
INSERT INTO kb_chunks (tenant_id, id, document_id, chunk_index, content, embedding)
VALUES ($1, $2, $3, $4, 'passage', ('[1' || repeat(',0', {DIMENSIONS - 1}) || ']')::vector)
"""


@dataclass(frozen=True, slots=True)
class TenantRows:
    """One row in each table that the runtime role may read."""

    tenant_id: UUID
    event_id: UUID
    document_id: UUID
    chunk_id: UUID
    key: str


async def insert_event(connection: asyncpg.Connection, tenant_id: UUID | None, event_id: UUID | None = None) -> UUID:
    """Insert an event for a tenant, whatever the session's tenant is."""
    new = event_id or uuid7()
    await connection.execute(_INSERT_EVENT, tenant_id, new)
    return new


async def insert_key(connection: asyncpg.Connection, tenant_id: UUID | None, key: str, event_id: UUID) -> None:
    """Insert an idempotency key."""
    await connection.execute(_INSERT_KEY, tenant_id, key, event_id, bytes(32))


async def insert_document(connection: asyncpg.Connection, tenant_id: UUID | None, external_id: str) -> UUID:
    """Insert a document."""
    new = uuid7()
    await connection.execute(_INSERT_DOCUMENT, tenant_id, new, external_id)
    return new


async def insert_chunk(connection: asyncpg.Connection, tenant_id: UUID | None, document_id: UUID) -> UUID:
    """Insert a chunk somewhere in a document."""
    new = uuid7()
    await connection.execute(_INSERT_CHUNK, tenant_id, new, document_id, secrets.randbelow(2**31))
    return new


async def insert_into(table: str, connection: asyncpg.Connection, rows: TenantRows, tenant_id: UUID | None) -> None:
    """Insert a new row into one of the readable tables, under any tenant id."""
    if table == "audit_events":
        await insert_event(connection, tenant_id)
    elif table == "audit_idempotency_keys":
        await insert_key(connection, tenant_id, uuid7().hex, rows.event_id)
    elif table == "kb_documents":
        await insert_document(connection, tenant_id, uuid7().hex)
    elif table == "kb_chunks":
        await insert_chunk(connection, tenant_id, rows.document_id)
    else:
        raise AssertionError(f"no row is known for {table}")


@asynccontextmanager
async def tenant_transaction(url: SecretStr | None, tenant_id: UUID | None) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection with one transaction, as a tenant or as none, that commits at its end."""
    assert url is not None
    connection = await asyncpg.connect(url.get_secret_value())
    try:
        async with connection.transaction():
            if tenant_id is not None:
                await connection.execute("SELECT set_tenant($1)", tenant_id)
            yield connection
    finally:
        await connection.close()


async def add_rows(settings: Settings, tenant_id: UUID) -> TenantRows:
    """Commit one row into each table, as the runtime role."""
    async with tenant_transaction(settings.database.database_url, tenant_id) as connection:
        event_id = await insert_event(connection, tenant_id)
        key = uuid7().hex
        await insert_key(connection, tenant_id, key, event_id)
        document_id = await insert_document(connection, tenant_id, "handbook")
        chunk_id = await insert_chunk(connection, tenant_id, document_id)
    return TenantRows(tenant_id, event_id, document_id, chunk_id, key)


async def sqlstate_of(connection: asyncpg.Connection, statement: str, *values: object) -> str | None:
    """Try a statement in a transaction that is rolled back; return its SQLSTATE, or `None` when it was accepted."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(statement, *values)
    except asyncpg.PostgresError as error:
        return error.sqlstate
    finally:
        await transaction.rollback()
    return None


def database_name(settings: Settings) -> str:
    """Return the name of the database that the settings point to."""
    assert settings.database.database_url is not None
    return settings.database.database_url.get_secret_value().rsplit("/", 1)[1]


def superuser_url(postgres: EmbeddedPostgres, settings: Settings) -> SecretStr:
    """Return the superuser's URL for the settings' database."""
    return SecretStr(postgres.superuser_url.get_secret_value().rsplit("/", 1)[0] + f"/{database_name(settings)}")
