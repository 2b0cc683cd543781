"""Tenant sessions: the only door to tenant rows.

A session is one explicit transaction whose first statement is `SELECT set_tenant(...)`, which sets
`app.current_tenant` for that transaction only (SET LOCAL). PostgreSQL's row level security then shows and accepts
this tenant's rows and no others, and after commit, rollback or a lost connection the setting is gone, so that a
pooled connection carries nothing over to the next borrower.

Row level security is the lock, but the planner can't route or prune by it. So every SELECT, UPDATE and DELETE on a
`TenantOwned` class also carries the predicate `tenant_id = :tenant`; it is added here, in `_add_tenant_predicate`,
and nowhere else.

Sessions are short: open one after the slow work (embedding, parsing) and close it before building the answer. Sibling
fields of one GraphQL request run concurrently, so each root field opens its own.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from sqlalchemy import Uuid, bindparam, event, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from app.database.failures import translated_failures
from app.database.tenant_owned import TenantId, TenantOwned

# What services receive; told apart from a plain session by name only.
TenantSession = AsyncSession

_TENANT = "tenant_id"
_SET_TENANT = select(func.set_tenant(bindparam("tenant", type_=Uuid())))


class _TenantBoundSession(Session):
    """The synchronous half of a tenant session, which carries the predicate."""


@event.listens_for(_TenantBoundSession, "do_orm_execute")
def _add_tenant_predicate(state: ORMExecuteState) -> None:
    if state.is_column_load or state.is_relationship_load or state.is_insert:
        return
    tenant: UUID = state.session.info[_TENANT]
    state.statement = state.statement.options(
        with_loader_criteria(TenantOwned, lambda owned: owned.tenant_id == tenant, include_aliases=True)
    )


def session_tenant(session: AsyncSession) -> TenantId:
    """Return the tenant that the session was opened for; rows are inserted under it."""
    tenant: TenantId = session.info[_TENANT]
    return tenant


@asynccontextmanager
async def tenant_session(engine: AsyncEngine, tenant_id: TenantId) -> AsyncIterator[AsyncSession]:
    """Open a transaction as one tenant; commit on exit, roll back on any error or cancellation.

    Raises `Unavailable` when no connection can be had or it is lost, `Timeout` when a statement takes too long.
    """
    with translated_failures():
        session = await _open(engine, tenant_id)
        try:
            yield session
            await session.commit()
        except BaseException:
            await session.rollback()
            raise
        finally:
            await session.close()


async def _open(engine: AsyncEngine, tenant_id: TenantId) -> AsyncSession:
    for attempt in (1, 2):
        session = AsyncSession(
            engine, sync_session_class=_TenantBoundSession, expire_on_commit=False, info={_TENANT: tenant_id}
        )
        try:
            await session.execute(_SET_TENANT, {"tenant": tenant_id})
        except DBAPIError as error:
            await session.close()
            # Nothing of the caller's has been sent yet, so one more try on a fresh connection is always safe.
            if attempt == 2 or not error.connection_invalidated:
                raise
        except BaseException:
            await session.close()
            raise
        else:
            return session
    raise AssertionError("unreachable")
