"""Idempotency keys outlive their events, and a logger stays in its author's tenant."""

from collections.abc import AsyncIterator

import pytest

from app.audit import AuditLogger, ToolCall
from app.audit.recording import LogOutcome
from app.database.database import Database
from app.database.embedded import EmbeddedPostgres
from app.database.owner import owner_transaction
from app.settings import Limits, Settings
from tests.support.database import TestTenant, fresh_database, new_tenant


@pytest.fixture
async def own_settings(postgres: EmbeddedPostgres) -> Settings:
    """A database whose partitions this test may drop."""
    return await fresh_database(postgres)


@pytest.fixture
async def own_database(own_settings: Settings) -> AsyncIterator[Database]:
    """Its pool."""
    opened = Database(own_settings.database)
    yield opened
    await opened.close()


async def test_key_of_a_dropped_event_still_stands(own_settings: Settings, own_database: Database) -> None:
    """After its month is dropped, a retry is a duplicate without an event, and its batch mates are recorded."""
    tenant = await new_tenant(own_settings)
    logger = AuditLogger(own_database, tenant.principal, Limits())
    keyed = ToolCall(tool_name="t", idempotency_key="k")
    first = await logger.log_tool_call(keyed)
    assert first.event is not None
    month = first.event.created_at.replace(day=1).date()
    async with owner_transaction(own_settings.database) as connection:
        await connection.exec_driver_sql(f"DROP TABLE audit_events_{month:%Y_%m}")
        await connection.exec_driver_sql(f"SELECT create_audit_partition('{month}')")
    good, again, other = await logger.log_events(
        [ToolCall(tool_name="good"), keyed, ToolCall(tool_name="other", idempotency_key="k")]
    )
    assert good.outcome is LogOutcome.RECORDED
    assert (again.outcome, again.event) == (LogOutcome.DUPLICATE, None)
    assert (other.outcome, other.event) == (LogOutcome.REJECTED, None)


async def test_logger_refuses_a_session_of_another_tenant(
    database: Database, tenant_a: TestTenant, tenant_b: TestTenant
) -> None:
    """A's logger can't be talked into writing B's trail."""
    logger = AuditLogger(database, tenant_a.principal, Limits())
    async with database.tenant_session(tenant_b.id) as session:
        with pytest.raises(ValueError, match="another tenant"):
            logger.within(session)
