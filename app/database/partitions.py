"""Monthly partitions of the audit trail, made ahead of time by the owner."""

from datetime import date

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.failures import sqlstate

_MONTHS = """
SELECT (date_trunc('month', COALESCE(CAST(:since AS timestamptz), now()) AT TIME ZONE 'UTC')
        + make_interval(months => n))::date AS month
FROM generate_series(0, 12 * 100) AS n
WHERE date_trunc('month', COALESCE(CAST(:since AS timestamptz), now()) AT TIME ZONE 'UTC') + make_interval(months => n)
    <= (now() AT TIME ZONE 'UTC') + make_interval(months => :ahead)
"""

_CHECK_VIOLATION = "23514"


async def create_partitions(
    connection: AsyncConnection, *, months_ahead: int, since: object = None
) -> tuple[list[str], list[date]]:
    """Create the missing partitions from `since` (default: this month) to so many months ahead.

    Returns the names of the new partitions, and the months left to the default partition because it holds events of
    theirs already (they stay readable there; retention handles them with the default partition).
    """
    months = (await connection.execute(text(_MONTHS), {"since": since, "ahead": months_ahead})).scalars().all()
    created: list[str] = []
    skipped: list[date] = []
    for month in months:
        try:
            async with connection.begin_nested():
                name = (
                    await connection.execute(text("SELECT create_audit_partition(:month)"), {"month": month})
                ).scalar_one()
        except DBAPIError as error:
            if sqlstate(error) != _CHECK_VIOLATION:
                raise
            skipped.append(month)
        else:
            if name is not None:
                created.append(name)
    return created, skipped
