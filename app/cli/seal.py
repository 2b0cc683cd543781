"""`konstruct seal`: the sealer as a process of its own."""

import asyncio
from typing import Annotated

import typer

from app.cli.output import console
from app.cli.signals import end_well_on_signals
from app.integrity.sealer import Sealer
from app.observability.logging import configure_logging
from app.settings import Settings, SettingsError


def seal(
    once: Annotated[bool, typer.Option("--once", help="Seal what there is, then stop.")] = False,
) -> None:
    """Give each committed event its place in its tenant's sealed log, until it is stopped.

    Uses KONSTRUCT_SEALER_DATABASE_URL, which a server that has it does by itself: this command is for those who seal
    on another machine. Any number may run, one of them works.

    konstruct seal
    """
    settings = Settings.from_environment()
    url = settings.database.sealer_database_url
    if url is None:
        raise SettingsError(
            "KONSTRUCT_SEALER_DATABASE_URL is not set; expected postgresql://konstruct_sealer:password@host:5432/database"
        )
    configure_logging(settings.server.log_format, settings.server.log_level)
    end_well_on_signals()
    if once:
        console.print(f"Sealed {asyncio.run(Sealer(url).catch_up()):,} events.")
    else:
        asyncio.run(Sealer(url).run())
