"""The server refuses a database where tenants would not be safe or events not immutable, and says why in one line."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
from alembic import command
from pydantic import SecretStr
from sqlalchemy import Connection

from app.database.database import Database
from app.database.embedded import EmbeddedPostgres
from app.database.migrate import alembic_config, head_revision
from app.database.owner import owner_transaction
from app.database.readiness import Problem, UnsafeDatabase, check_before_start, find_problems
from app.settings import EmbeddingsProvider, EmbeddingsSettings, Settings
from tests.database.rows import database_name, superuser_url
from tests.support.database import connect, fresh_database, new_tenant, server_environment

MakeRole = Callable[[str], Awaitable[SecretStr]]

HEAD = head_revision()


@pytest.fixture(scope="module")
async def migrated(postgres: EmbeddedPostgres) -> Settings:
    """A migrated database of this module's own."""
    return await fresh_database(postgres)


@pytest.fixture
async def make_role(postgres: EmbeddedPostgres, migrated: Settings) -> AsyncIterator[MakeRole]:
    """Make a login role with the given attributes; it may read what the runtime role may, and is dropped afterwards."""
    made: list[str] = []

    async def make(attributes: str) -> SecretStr:
        name = f"role_{len(made)}"
        async with connect(superuser_url(postgres, migrated)) as superuser:
            await superuser.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'pw' {attributes}")
        made.append(name)
        return postgres.url(name, "pw", database_name(migrated))

    yield make
    async with connect(superuser_url(postgres, migrated)) as superuser:
        for name in made:
            await superuser.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def reason_to_refuse(settings: Settings, url: SecretStr | None = None) -> str:
    """Return why the server would not start; empty when it would."""
    given = settings.database if url is None else settings.database.model_copy(update={"database_url": url})
    database = Database(given)
    try:
        await check_before_start(database)
    except UnsafeDatabase as error:
        return str(error)
    finally:
        await database.close()
    return ""


async def problems_of(settings: Settings) -> list[Problem]:
    """Return everything that readiness finds."""
    database = Database(settings.database)
    async with database.connection() as connection:
        found = await find_problems(connection, settings.embeddings)
    await database.close()
    return found


# The role


async def test_the_weak_role_may_start(migrated: Settings) -> None:
    """On a migrated database the weak role finds nothing to stop for, and says that the test server has no fsync."""
    assert await reason_to_refuse(migrated) == ""
    assert [(problem.check, problem.is_fatal) for problem in await problems_of(migrated)] == [("fsync", False)]


async def test_superuser_is_refused(postgres: EmbeddedPostgres, migrated: Settings) -> None:
    """To a superuser no policy applies."""
    assert await reason_to_refuse(migrated, superuser_url(postgres, migrated)) == (
        "the database role postgres is a superuser, whom row level security does not bind;"
        " connect as konstruct_app, which `konstruct migrate` creates"
    )


async def test_owner_is_refused(migrated: Settings) -> None:
    """The owner could lift the protection."""
    assert await reason_to_refuse(migrated, migrated.database.owner_database_url) == (
        "the database role konstruct_owner owns tables (api_keys, audit_events, audit_idempotency_keys,"
        " audit_log_cursor, audit_log_leaves, audit_log_states, kb_chunks, kb_documents, kb_profiles, tenants) and"
        " could lift their protection; connect as konstruct_app, which `konstruct migrate` creates"
    )


async def test_bypassrls_is_refused(migrated: Settings, make_role: MakeRole) -> None:
    """A role with BYPASSRLS sees every tenant."""
    url = await make_role("BYPASSRLS IN ROLE konstruct_app")
    assert await reason_to_refuse(migrated, url) == (
        "the database role role_0 has BYPASSRLS, so tenants would not be isolated;"
        " connect as konstruct_app, which `konstruct migrate` creates"
    )


@pytest.mark.parametrize("inherits", ["INHERIT", "NOINHERIT"])
async def test_member_of_the_owner_is_refused(migrated: Settings, make_role: MakeRole, inherits: str) -> None:
    """A role that is, or can become, the owner is as strong as the owner."""
    url = await make_role(f"{inherits} IN ROLE konstruct_app, konstruct_owner")
    reason = await reason_to_refuse(migrated, url)
    assert reason.startswith("the database role role_0 owns tables (api_keys, audit_events, ")


@pytest.mark.parametrize("attribute", ["BYPASSRLS", "SUPERUSER"])
async def test_member_of_a_role_above_the_policies_is_refused(
    migrated: Settings, make_role: MakeRole, attribute: str
) -> None:
    """A role that may SET ROLE to one that sees every tenant is no weak role."""
    await make_role(attribute)
    url = await make_role("IN ROLE konstruct_app, role_0")
    assert "role_1" in await reason_to_refuse(migrated, url)


async def test_another_weak_role_may_start(migrated: Settings, make_role: MakeRole) -> None:
    """The name does not matter: a weak role with the same privileges is accepted."""
    assert await reason_to_refuse(migrated, await make_role("IN ROLE konstruct_app")) == ""


@pytest.mark.parametrize("privilege", ["UPDATE", "DELETE", "TRUNCATE", "UPDATE (output_summary)"])
@pytest.mark.parametrize("grantee", ["konstruct_app", "PUBLIC"])
async def test_a_mutable_trail_is_refused(migrated: Settings, privilege: str, grantee: str) -> None:
    """A runtime role that was granted any change of events, directly or through everybody, stops the start."""
    async with connect(migrated.database.owner_database_url) as owner:
        await owner.execute(f"GRANT {privilege} ON audit_events TO {grantee}")
        reason = await reason_to_refuse(migrated)
        await owner.execute(f"REVOKE {privilege} ON audit_events FROM {grantee}")
    assert reason == (
        "the runtime role may change audit_events, so events would not be immutable;"
        " revoke its UPDATE, DELETE and TRUNCATE"
    )
    assert await reason_to_refuse(migrated) == ""


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("audit_events", "DROP TRIGGER refuse_row_change ON audit_events"),
        ("audit_events_default", "ALTER TABLE audit_events_default DISABLE TRIGGER refuse_change"),
        ("audit_events_default", "ALTER TABLE audit_events_default ENABLE TRIGGER refuse_change"),
    ],
)
async def test_a_trail_without_its_triggers_is_refused(postgres: EmbeddedPostgres, table: str, change: str) -> None:
    """A trigger that is gone, off, or not fired for every kind of session stops the start; its table is named."""
    settings = await fresh_database(postgres)
    async with connect(settings.database.owner_database_url) as owner:
        await owner.execute(change)
    reason = await reason_to_refuse(settings)
    assert reason.startswith("the triggers that refuse changes of events are missing or off on ")
    assert table in reason


# The schema


async def test_an_empty_database_is_refused(postgres: EmbeddedPostgres) -> None:
    """Without migrations the reason says how to run them."""
    settings = await fresh_database(postgres, migrated=False)
    expected = f"the database is at revision none, this server needs {HEAD}; run `konstruct migrate`"
    assert await reason_to_refuse(settings) == expected


async def test_an_older_schema_is_refused(postgres: EmbeddedPostgres) -> None:
    """One revision behind is behind."""
    settings = await fresh_database(postgres, migrated=False)
    config = alembic_config(settings)

    def upgrade(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "002")

    async with owner_transaction(settings.database) as connection:
        await connection.run_sync(upgrade)
    expected = f"the database is at revision 002, this server needs {HEAD}; run `konstruct migrate`"
    assert await reason_to_refuse(settings) == expected


async def test_a_newer_schema_is_refused(postgres: EmbeddedPostgres) -> None:
    """An old server does not run on a schema that it does not know."""
    settings = await fresh_database(postgres)
    async with connect(settings.database.owner_database_url) as owner:
        await owner.execute("UPDATE alembic_version SET version_num = '999'")
    expected = f"the database is at revision 999, this server needs {HEAD}; upgrade this server"
    assert await reason_to_refuse(settings) == expected


async def test_another_model_in_the_settings_is_a_warning(migrated: Settings) -> None:
    """The database says which model the knowledge base goes by; settings that say another one stop nothing."""
    other = EmbeddingsSettings(provider=EmbeddingsProvider.OPENAI, model="m", dimensions=1536)
    assert await reason_to_refuse(migrated) == ""
    problems = await problems_of(migrated.model_copy(update={"embeddings": other}))
    (problem,) = set(problems) - set(await problems_of(migrated))
    assert (problem.check, problem.is_fatal) == ("embeddings", False)
    assert problem.reason.startswith("the settings say openai m 1536 dimensions for embeddings, the knowledge base is")
    assert "konstruct kb reembed" in problem.reason


async def test_a_used_default_partition_is_a_warning(postgres: EmbeddedPostgres) -> None:
    """Events in the default partition are reported and stop nothing."""
    settings = await fresh_database(postgres)
    tenant = await new_tenant(settings)
    async with connect(superuser_url(postgres, settings)) as superuser:
        await superuser.execute(
            "INSERT INTO audit_events (tenant_id, id, created_at, action_type, status, submitted_by)"
            " VALUES ($1, gen_random_uuid(), '2001-01-01', 'llm_call', 'succeeded', 'x')",
            tenant.id,
        )
    assert [(problem.check, problem.is_fatal) for problem in await problems_of(settings)] == [
        ("fsync", False),
        ("default_partition", False),
    ]
    assert await reason_to_refuse(settings) == ""


async def test_an_unreachable_database_is_refused(migrated: Settings) -> None:
    """A wrong password and a port where nothing listens are reasons too, without the password in them."""
    assert migrated.database.database_url is not None
    url = migrated.database.database_url.get_secret_value()
    password = url.split(":")[2].split("@")[0]
    wrong = await reason_to_refuse(migrated, SecretStr(url.replace(password, "wrong-password")))
    nobody = await reason_to_refuse(migrated, SecretStr(f"postgresql://konstruct_app:{password}@127.0.0.1:1/konstruct"))
    assert wrong.startswith("the database can't be reached: ")
    assert nobody.startswith("the database can't be reached: ")
    assert "wrong-password" not in wrong
    assert password not in nobody


# The process


@dataclass(frozen=True, slots=True)
class Ended:
    """How a server process ended."""

    code: int
    output: str


async def serve(settings: Settings, url: SecretStr | None) -> Ended:
    """Run `konstruct serve` with a runtime URL; it must end by itself."""
    assert url is not None
    command_line = [sys.executable, "-m", "app.cli", "serve", "--port", "0"]
    environment = server_environment(settings, KONSTRUCT_DATABASE_URL=url.get_secret_value())
    process = await asyncio.to_thread(
        subprocess.run, command_line, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return Ended(process.returncode, process.stdout + process.stderr)


async def test_server_process_refuses_strong_roles(
    postgres: EmbeddedPostgres, migrated: Settings, make_role: MakeRole
) -> None:
    """`konstruct serve` as superuser, owner or BYPASSRLS role exits with 1 and one line that says why."""
    urls = (
        superuser_url(postgres, migrated),
        migrated.database.owner_database_url,
        await make_role("BYPASSRLS IN ROLE konstruct_app"),
    )
    ended = await asyncio.gather(*(serve(migrated, url) for url in urls))
    assert [process.code for process in ended] == [1, 1, 1], ended
    lines = [process.output.splitlines() for process in ended]
    assert [len(printed) for printed in lines] == [1, 1, 1], ended
    assert lines[0][0].startswith("konstruct: the database role postgres is a superuser, ")
    assert lines[1][0].startswith("konstruct: the database role konstruct_owner owns tables (")
    assert lines[2][0].startswith("konstruct: the database role role_0 has BYPASSRLS, ")


@pytest.mark.parametrize("table", ["kb_chunks", "audit_events", "tenants"])
async def test_table_whose_row_level_security_was_lifted_is_refused(postgres: EmbeddedPostgres, table: str) -> None:
    """A server does not start while a table with tenant rows is unlocked."""
    settings = await fresh_database(postgres)
    async with owner_transaction(settings.database) as connection:
        await connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    assert await reason_to_refuse(settings, settings.database.database_url) == (
        f"row level security is off, not forced or without a policy on {table}; restore it as the owner"
    )


async def test_a_role_without_synchronous_commit_is_refused(postgres: EmbeddedPostgres) -> None:
    """A server does not start where what it acknowledges could be lost in a crash."""
    settings = await fresh_database(postgres)
    async with connect(superuser_url(postgres, settings)) as superuser:
        name = database_name(settings)
        await superuser.execute(f"ALTER ROLE konstruct_app IN DATABASE {name} SET synchronous_commit = off")
    assert await reason_to_refuse(settings, settings.database.database_url) == (
        "synchronous_commit is off for this role, so acknowledged events could be lost in a crash;"
        " ALTER ROLE konstruct_app SET synchronous_commit = on"
    )
