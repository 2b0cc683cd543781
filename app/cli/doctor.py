"""`konstruct doctor`: what the server would find at its start, and the way out of each trouble."""

import asyncio
from collections.abc import Mapping

import asyncpg
import typer
from sqlalchemy.exc import SQLAlchemyError

from app.cli.database import AsJson
from app.cli.output import print_rows
from app.database.database import Database
from app.database.direct import connect_directly
from app.database.readiness import Problem, find_problems
from app.database.urls import parse_database_url
from app.settings import Settings

Finding = Mapping[str, str]

_EXPECTED = {"owner": "the owner of the tables", "sealer": "konstruct_sealer"}
# On an empty database nobody can tell yet.
_IS_RIGHT = {
    "owner": """
        SELECT to_regclass('audit_events') IS NULL OR pg_has_role(
            current_user, (SELECT relowner FROM pg_class WHERE oid = to_regclass('audit_events')), 'MEMBER')
    """,
    "sealer": """
        SELECT to_regclass('audit_log_leaves') IS NULL OR (
            has_table_privilege(to_regclass('audit_log_leaves')::oid, 'INSERT') AND NOT pg_has_role(
                current_user, (SELECT relowner FROM pg_class WHERE oid = to_regclass('audit_log_leaves')), 'MEMBER'))
    """,
}


def doctor(as_json: AsJson = False) -> None:
    """Check the settings and the database as the server does at its start, and say what to do.

    Ends with exit code 1 if the server would not start.

    konstruct doctor
    """
    settings = Settings.from_environment()
    findings, is_fatal = asyncio.run(_examine(settings))
    print_rows(findings, as_json=as_json, empty="")
    if is_fatal:
        raise typer.Exit(1)


async def _examine(settings: Settings) -> tuple[list[Finding], bool]:
    problems = await _problems_of_the_server(settings)
    findings = [_finding(problem) for problem in problems] or [_fine("server", "it would start")]
    for role, variable in (("owner", "KONSTRUCT_OWNER_DATABASE_URL"), ("sealer", "KONSTRUCT_SEALER_DATABASE_URL")):
        url = getattr(settings.database, f"{role}_database_url")
        if url is None:
            findings.append({"check": role, "state": "not set", "reason": f"only some commands need {variable}"})
            continue
        try:
            connection = await connect_directly(parse_database_url(url, variable), "konstruct-doctor")
            try:
                is_right = await connection.fetchval(_IS_RIGHT[role])
            finally:
                await connection.close()
        except (OSError, asyncpg.PostgresError) as error:
            findings.append(_finding(Problem(role, f"{variable} can't be used: {error}", is_fatal=False)))
        else:
            reason = f"{variable} is the URL of another role; expected that of {_EXPECTED[role]}"
            findings.append(
                _fine(role, "it can connect") if is_right else _finding(Problem(role, reason, is_fatal=False))
            )
    return findings, any(problem.is_fatal for problem in problems)


async def _problems_of_the_server(settings: Settings) -> list[Problem]:
    database = Database(settings.database)
    try:
        async with database.connection() as connection:
            return await find_problems(connection, settings.embeddings)
    except (SQLAlchemyError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        return [Problem("database", f"KONSTRUCT_DATABASE_URL can't be used: {cause}")]
    finally:
        await database.close()


def _finding(problem: Problem) -> Finding:
    state = "stops the server" if problem.is_fatal else "warning"
    return {"check": problem.check, "state": state, "reason": problem.reason}


def _fine(check: str, reason: str) -> Finding:
    return {"check": check, "state": "ok", "reason": reason}
