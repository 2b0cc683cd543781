"""Managing tenants and their keys, as the owner of the database (the command line's work)."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.auth.api_keys import NewApiKey
from app.database.database import Database
from app.database.ids import new_id
from app.database.tenant_owned import TenantId
from app.errors import InvalidInput, NotFound
from app.models import ApiKey, Tenant
from app.validation import check_text


async def create_tenant(connection: AsyncConnection, name: str, tenant_id: UUID | None = None) -> TenantId:
    """Create a tenant and return its id."""
    check_text(("name",), name, allow_empty=False)
    created = TenantId(tenant_id or new_id())
    await _enter_tenant(connection, created)
    await connection.execute(insert(Tenant).values(id=created, name=name))
    return created


async def list_tenants(connection: AsyncConnection) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return all tenants, oldest first."""
    rows = await connection.execute(select(Tenant.id, Tenant.name, Tenant.created_at).order_by(Tenant.created_at))
    return [*rows]


async def store_api_key(
    connection: AsyncConnection,
    tenant_id: TenantId,
    key: NewApiKey,
    *,
    agent_id: UUID | None = None,
    lifetime: timedelta | None = None,
) -> None:
    """Store a new key of a tenant; raises `NotFound` when there is no such tenant."""
    await _enter_tenant(connection, tenant_id)
    if (await connection.execute(select(Tenant.id).where(Tenant.id == tenant_id))).one_or_none() is None:
        raise NotFound(f"there is no tenant {tenant_id}; `konstruct tenants list` shows them")
    await connection.execute(
        insert(ApiKey).values(
            tenant_id=tenant_id,
            id=key.id,
            name=check_text(("name",), key.name, allow_empty=False),
            key_prefix=key.key_prefix,
            key_hash=key.key_hash,
            scopes=list(key.scopes),
            agent_id=agent_id,
            expires_at=func.now() + lifetime if lifetime is not None else None,
        )
    )


async def check_tenant(database: Database, tenant_id: TenantId) -> None:
    """Raise `InvalidInput` unless there is such a tenant, as its own session sees it."""
    async with database.reading_session(tenant_id) as session:
        if (await session.scalars(select(Tenant.id).where(Tenant.id == tenant_id))).first() is None:
            raise InvalidInput(("tenant",), "there is none with this id; `konstruct tenants list` shows them")


async def list_api_keys(connection: AsyncConnection, tenant_id: TenantId | None) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return the keys of one tenant, or of all, oldest first; never a secret."""
    columns = (
        ApiKey.id, ApiKey.tenant_id, ApiKey.name, ApiKey.key_prefix, ApiKey.scopes, ApiKey.agent_id,
        ApiKey.created_at, ApiKey.expires_at, ApiKey.revoked_at,
    )  # fmt: skip
    query = select(*columns).order_by(ApiKey.created_at)
    if tenant_id is not None:
        query = query.where(ApiKey.tenant_id == tenant_id)
    return [*(await connection.execute(query))]


async def revoke_api_key(connection: AsyncConnection, key_id: UUID) -> None:
    """Revoke a key; servers stop accepting it within 5 seconds. Raises `NotFound`."""
    tenant_id = (await connection.execute(select(ApiKey.tenant_id).where(ApiKey.id == key_id))).scalar_one_or_none()
    if tenant_id is None:
        raise NotFound(f"there is no key {key_id}; `konstruct keys list` shows them")
    await _enter_tenant(connection, TenantId(tenant_id))
    await connection.execute(
        update(ApiKey).where(ApiKey.id == key_id).values(revoked_at=func.coalesce(ApiKey.revoked_at, func.now()))
    )


async def _enter_tenant(connection: AsyncConnection, tenant_id: TenantId) -> None:
    # The owner is subject to row level security too, so that a slip on the command line stays within one tenant.
    await connection.execute(text("SELECT set_tenant(:tenant)"), {"tenant": tenant_id})
