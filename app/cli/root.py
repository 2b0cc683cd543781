"""The root command, and how every failure ends: one line that says why, exit code 1, no traceback."""

import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.cli import bench, database, doctor, export, kb, profiles, seal, server, tenants
from app.database.embedded import EmbeddedPostgresError
from app.database.readiness import UnsafeDatabase
from app.errors import ServiceError
from app.settings import SettingsError


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"konstruct {version('konstruct')}")
        raise typer.Exit


app = typer.Typer(
    name="konstruct",
    help="The system of record beside AI agents: an audit trail that can't be changed, and a knowledge base.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_RUN, _DATABASE, _TENANTS = "Run it", "Look after the database", "Work for a tenant"
app.command(rich_help_panel=_RUN)(server.dev)
app.command(rich_help_panel=_RUN)(server.serve)
app.command(rich_help_panel=_RUN)(seal.seal)
app.command(rich_help_panel=_RUN)(doctor.doctor)
app.command(rich_help_panel=_DATABASE)(database.migrate)
app.command(rich_help_panel=_DATABASE)(database.maintain)
app.command(rich_help_panel=_DATABASE)(bench.bench_data)
kb.kb.command()(profiles.profiles)
kb.kb.command()(profiles.reembed)
kb.kb.command("drop-profile")(profiles.drop_profile)
app.add_typer(tenants.tenants, name="tenants", rich_help_panel=_TENANTS)
app.add_typer(tenants.keys, name="keys", rich_help_panel=_TENANTS)
app.add_typer(kb.kb, name="kb", rich_help_panel=_TENANTS)
app.command(rich_help_panel=_TENANTS)(export.export)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Only what is asked of no command."""


_EXPECTED = (SettingsError, UnsafeDatabase, EmbeddedPostgresError, ServiceError, OSError)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except _EXPECTED as error:
        _fail(str(error))
    except SQLAlchemyError as error:
        _fail(_database_reason(error))
    except Exception as error:  # noqa: BLE001 - the last resort: a user gets a line, not a traceback
        _fail(f"unexpected {type(error).__name__}: {error}")


def _database_reason(error: SQLAlchemyError) -> str:
    cause = getattr(error.orig, "__cause__", None) or error.orig if isinstance(error, DBAPIError) else error
    hint = getattr(cause, "hint", None)
    reason = str(cause).strip().splitlines()[0]
    return f"the database refused: {reason}" + (f" ({hint})" if hint else "")


def _fail(reason: str) -> NoReturn:
    print(f"konstruct: {reason}", file=sys.stderr)
    raise SystemExit(1)
