"""Bring the database to the schema that this version needs."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

import migrations
from app.database.owner import owner_transaction
from app.database.partitions import create_partitions
from app.database.passwords import scram_verifier
from app.database.urls import parse_database_url
from app.settings import Settings

# Any constant of the product's own; "konstruct" in ASCII, cut to 63 bits.
MIGRATION_LOCK = 0x6B6F6E7374727563


def alembic_config(settings: Settings) -> Config:
    """Return Alembic's configuration for the packaged revisions."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    configure_from_settings(config, settings)
    return config


def configure_from_settings(config: Config, settings: Settings) -> None:
    """Hand the revisions what they take from the settings."""
    embeddings = settings.embeddings
    config.attributes["embedding_dimensions"] = embeddings.index_dimensions
    config.attributes["embedding_profile"] = embeddings.profile
    config.attributes["search_language"] = settings.database.search_language
    for name, url, variable in (
        ("runtime", settings.database.database_url, "KONSTRUCT_DATABASE_URL"),
        ("sealer", settings.database.sealer_database_url, "KONSTRUCT_SEALER_DATABASE_URL"),
    ):
        password = None if url is None else parse_database_url(url, variable).password
        if password:
            config.attributes[f"{name}_password_verifier"] = scram_verifier(str(password))


def head_revision() -> str:
    """Return the revision that this version of the code is written for."""
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    head = script.get_current_head()
    if head is None:
        raise RuntimeError("the package holds no migrations")
    return head


async def migrate_to_head(settings: Settings) -> tuple[str | None, str]:
    """Upgrade as the owner, safely beside others that do the same; return the revisions before and after.

    The coming months' partitions are made as well. All of it is one transaction: it happens or it does not.
    """
    config = alembic_config(settings)
    async with owner_transaction(settings.database) as connection:
        before = await connection.run_sync(_current_revision)
        await connection.run_sync(_upgrade, config)
        await create_partitions(connection, months_ahead=settings.database.partitions_ahead)
    return before, head_revision()


def _current_revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _upgrade(connection: Connection, config: Config) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
