"""`konstruct migrate` and `konstruct maintain`: the owner's work on the database."""

import asyncio
from typing import Annotated

import typer

from app.cli.output import console, errors, print_json
from app.database.migrate import migrate_to_head
from app.database.owner import owner_transaction
from app.database.partitions import create_partitions
from app.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Answer with one line of JSON.")]


def migrate(as_json: AsJson = False) -> None:
    """Bring the database to the schema of this version, as its owner.

    Uses KONSTRUCT_OWNER_DATABASE_URL. Safe to run at any time and on several machines at once.

    konstruct migrate
    """
    settings = Settings.from_environment()
    with errors.status("Migrating the database ..."):
        before, after = asyncio.run(migrate_to_head(settings))
    if as_json:
        print_json({"before": before, "after": after})
    elif before == after:
        console.print(f"The database is at revision {after}; nothing to do.")
    else:
        console.print(f"Migrated the database from revision {before or 'none'} to {after}.")


def maintain(as_json: AsJson = False) -> None:
    """Make the coming months' partitions and refresh statistics, as the owner. Meant for cron, once a day.

    konstruct maintain
    """
    settings = Settings.from_environment()
    with errors.status("Making partitions and refreshing statistics ..."):
        created, skipped = asyncio.run(_maintain(settings))
    if as_json:
        print_json({"partitions_created": created, "months_in_default_partition": [str(day) for day in skipped]})
        return
    console.print(f"Partitions created: {', '.join(created) or 'none, all are there'}.")
    if skipped:
        months = ", ".join(f"{day:%Y-%m}" for day in skipped)
        console.print(f"Months whose events stay in the default partition: {months}.")
    console.print("Statistics refreshed.")


async def _maintain(settings: Settings) -> tuple[list[str], list[object]]:
    async with owner_transaction(settings.database) as connection:
        created, skipped = await create_partitions(connection, months_ahead=settings.database.partitions_ahead)
        await connection.exec_driver_sql("ANALYZE audit_events, kb_documents, kb_chunks")
    return created, list(skipped)
