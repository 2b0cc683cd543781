"""Audit events are never changed or removed: missing grants stop the runtime role, triggers stop everyone else."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import graphql
import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette

import graphql_schema
from app.audit import AuditLogger, LlmCall
from app.database.database import Database
from app.database.embedded import EmbeddedPostgres
from app.main import create_app
from app.settings import Limits, Settings
from tests.database.rows import (
    INSUFFICIENT_PRIVILEGE,
    TenantRows,
    add_rows,
    database_name,
    insert_event,
    sqlstate_of,
    superuser_url,
    tenant_transaction,
)
from tests.support.database import TestTenant, connect, fresh_database, new_tenant

FOREIGN_KEY_VIOLATION = "23503"

_VALUES = "(tenant_id, created_at, id, action_type, status, submitted_by)"

# Each is tried on the parent and on partitions; {table} is the relation, {tenant} and {id} an event that is there.
CHANGES = {
    "update": "UPDATE {table} SET output_summary = 'changed'",
    "update one": "UPDATE {table} SET output_summary = 'changed' WHERE tenant_id = '{tenant}' AND id = '{id}'",
    "update nothing": "UPDATE {table} SET output_summary = 'changed' WHERE false",
    "update to the same": "UPDATE {table} SET status = status",
    "move": "UPDATE {table} SET created_at = created_at + interval '1 month'",
    "delete": "DELETE FROM {table}",
    "delete one": "DELETE FROM {table} WHERE tenant_id = '{tenant}' AND id = '{id}'",
    "delete nothing": "DELETE FROM {table} WHERE false",
    "truncate": "TRUNCATE {table}",
    "truncate cascade": "TRUNCATE {table} CASCADE",
    "merge update": (
        "MERGE INTO {table} e USING (VALUES ('{id}'::uuid)) v (id) ON e.id = v.id"
        " WHEN MATCHED THEN UPDATE SET output_summary = 'changed'"
    ),
    "merge delete": (
        "MERGE INTO {table} e USING (VALUES ('{id}'::uuid)) v (id) ON e.id = v.id WHEN MATCHED THEN DELETE"
    ),
    "upsert": (
        f"INSERT INTO {{table}} {_VALUES}"
        " SELECT '{tenant}', '{created_at}', '{id}', 'llm_call', 'failed', 'x'"
        " ON CONFLICT (tenant_id, created_at, id) DO UPDATE SET status = 'failed'"
    ),
    "upsert without created_at": (
        "INSERT INTO {table} (tenant_id, id, action_type, status, submitted_by)"
        " SELECT '{tenant}', '{id}', 'llm_call', 'failed', 'x'"
        " ON CONFLICT (tenant_id, created_at, id) DO UPDATE SET status = 'failed'"
    ),
    "delete in a query": "WITH gone AS (DELETE FROM {table} RETURNING id) SELECT count(*) FROM gone",
}


@dataclass(frozen=True, slots=True)
class Trail:
    """A database of this module's own with one event in it."""

    settings: Settings
    superuser_url: SecretStr
    rows: TenantRows
    created_at: Any
    partitions: tuple[str, ...]
    stored: asyncpg.Record

    def url(self, role: str) -> SecretStr | None:
        """Return the URL of one of the three roles."""
        database = self.settings.database
        return {
            "app": database.database_url,
            "owner": database.owner_database_url,
            "superuser": self.superuser_url,
        }[role]

    def statements(self, change: str) -> list[str]:
        """Return a change on the parent, on the event's own partition and on the default partition."""
        given = {"tenant": self.rows.tenant_id, "id": self.rows.event_id, "created_at": self.created_at}
        return [CHANGES[change].format(table=table, **given) for table in ("audit_events", *self.partitions)]

    async def now_stored(self) -> asyncpg.Record | None:
        """Return the event as it is now."""
        async with connect(self.superuser_url) as superuser:
            return await superuser.fetchrow("SELECT * FROM audit_events WHERE id = $1", self.rows.event_id)


@pytest.fixture(scope="module")
async def trail(postgres: EmbeddedPostgres) -> Trail:
    """One event in a fresh database."""
    settings = await fresh_database(postgres)
    tenant = await new_tenant(settings)
    rows = await add_rows(settings, tenant.id)
    url = superuser_url(postgres, settings)
    async with connect(url) as superuser:
        stored = await superuser.fetchrow("SELECT *, tableoid::regclass::text AS partition FROM audit_events")
        event = await superuser.fetchrow("SELECT * FROM audit_events")
    assert stored is not None
    assert event is not None
    partitions = (stored["partition"], "audit_events_default")
    return Trail(settings, url, rows, stored["created_at"], partitions, event)


@pytest.fixture
async def superuser(trail: Trail) -> AsyncIterator[asyncpg.Connection]:
    """The superuser in the module's database, in a transaction that is rolled back."""
    async with connect(trail.superuser_url) as connection:
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        await transaction.rollback()


async def attempt(
    url: SecretStr | None, tenant_id: UUID | None, *statements: str, before: str = "SELECT"
) -> list[asyncpg.PostgresError | None]:
    """Run statements in a transaction each, which commits; return how each was refused, `None` if it was not."""
    assert url is not None
    connection = await asyncpg.connect(url.get_secret_value())
    refusals: list[asyncpg.PostgresError | None] = []
    for statement in statements:
        try:
            async with connection.transaction():
                if tenant_id is not None:
                    await connection.execute("SELECT set_tenant($1)", tenant_id)
                await connection.execute(before)
                await connection.execute(statement)
        except asyncpg.PostgresError as error:
            refusals.append(error)
        else:
            refusals.append(None)
    await connection.close()
    return refusals


# C69: every change, by every role


@pytest.mark.parametrize("with_tenant", [True, False], ids=["tenant", "no tenant"])
@pytest.mark.parametrize("change", CHANGES)
async def test_runtime_role_can_not_change_events(trail: Trail, change: str, with_tenant: bool) -> None:
    """The runtime role lacks the privilege, on the table and on its partitions, with a tenant set or none."""
    tenant_id = trail.rows.tenant_id if with_tenant else None
    refusals = await attempt(trail.url("app"), tenant_id, *trail.statements(change))
    assert [error and error.sqlstate for error in refusals] == [INSUFFICIENT_PRIVILEGE] * 3
    assert all("permission denied" in str(error) for error in refusals)
    assert await trail.now_stored() == trail.stored


@pytest.mark.parametrize("with_tenant", [True, False], ids=["tenant", "no tenant"])
@pytest.mark.parametrize("change", CHANGES)
async def test_owner_can_not_change_events(trail: Trail, change: str, with_tenant: bool) -> None:
    """The triggers refuse the owner too, with an explanation, even when no row matches."""
    tenant_id = trail.rows.tenant_id if with_tenant else None
    refusals = await attempt(trail.url("owner"), tenant_id, *trail.statements(change))
    assert [error and error.sqlstate for error in refusals] == [INSUFFICIENT_PRIVILEGE] * 3
    assert all(str(error).startswith("audit events are insert-only: ") for error in refusals)
    assert await trail.now_stored() == trail.stored


@pytest.mark.parametrize("replica", [True, False], ids=["replica", "origin"])
@pytest.mark.parametrize("change", CHANGES)
async def test_superuser_can_not_change_events_by_accident(trail: Trail, change: str, replica: bool) -> None:
    """The triggers fire for a superuser, and under session_replication_role = replica as well."""
    before = "SET LOCAL session_replication_role = replica" if replica else "SELECT"
    refusals = await attempt(trail.url("superuser"), None, *trail.statements(change), before=before)
    assert [error and error.sqlstate for error in refusals] == [INSUFFICIENT_PRIVILEGE] * 3
    assert await trail.now_stored() == trail.stored


@pytest.mark.parametrize(
    ("disabled", "statement"),
    [
        ("refuse_change", "UPDATE {} SET status = 'failed'"),
        ("refuse_change", "DELETE FROM {}"),
        ("refuse_row_change", "UPDATE {} SET status = 'failed'"),
        ("refuse_row_change", "DELETE FROM {}"),
        ("refuse_row_change", "TRUNCATE {}"),
    ],
)
@pytest.mark.parametrize("replica", [True, False], ids=["replica", "origin"])
async def test_each_trigger_is_enough(
    trail: Trail, superuser: asyncpg.Connection, disabled: str, statement: str, replica: bool
) -> None:
    """With the statement triggers disabled the row trigger refuses, and the other way round."""
    for table in ("audit_events", *trail.partitions):
        await superuser.execute(f"ALTER TABLE {table} DISABLE TRIGGER {disabled}")
    if replica:
        await superuser.execute("SET LOCAL session_replication_role = replica")
    for table in ("audit_events", trail.partitions[0]):
        assert await sqlstate_of(superuser, statement.format(table)) == INSUFFICIENT_PRIVILEGE, table


async def test_without_triggers_the_owner_could_change_events(trail: Trail, superuser: asyncpg.Connection) -> None:
    """It is the triggers that stop the owner: with all of them disabled the same statement goes through."""
    for table in ("audit_events", trail.partitions[0]):
        await superuser.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    await superuser.execute("SELECT set_tenant($1)", trail.rows.tenant_id)
    await superuser.execute("SET LOCAL ROLE konstruct_owner")
    assert await superuser.execute("UPDATE audit_events SET status = 'failed'") == "UPDATE 1"


async def test_every_partition_carries_its_own_triggers(trail: Trail) -> None:
    """Each partition has the row trigger and the statement trigger, both firing always."""
    query = """
    SELECT c.relname::text AS name,
           array_agg(t.tgname || ' ' || t.tgenabled::text || ' ' || t.tgtype ORDER BY t.tgname) AS triggers
    FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = 'audit_events'::regclass
    LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgname LIKE 'refuse%'
    GROUP BY c.relname
    """
    async with connect(trail.superuser_url) as superuser:
        found = {row["name"]: row["triggers"] for row in await superuser.fetch(query)}
    # tgtype: BEFORE 2, DELETE 8, UPDATE 16, TRUNCATE 32, ROW 1. tgenabled A: always.
    expected = [f"refuse_change A {2 + 8 + 16 + 32}", f"refuse_row_change A {1 + 2 + 8 + 16}"]
    assert len(found) == 15
    assert found == dict.fromkeys(found, expected)


async def test_idempotency_keys_are_kept_for_ever(trail: Trail) -> None:
    """The runtime role can't update, delete or truncate idempotency keys, nor date them itself."""
    tenant_id = trail.rows.tenant_id
    insert = "INSERT INTO audit_idempotency_keys (tenant_id, key, event_id, body_hash"
    upsert = "ON CONFLICT (tenant_id, key) DO UPDATE SET event_id = excluded.event_id"
    async with connect(trail.url("app"), tenant_id) as app:
        states = [
            await sqlstate_of(app, statement)
            for statement in (
                "UPDATE audit_idempotency_keys SET event_id = gen_random_uuid()",
                "DELETE FROM audit_idempotency_keys",
                "TRUNCATE audit_idempotency_keys",
                f"{insert}, event_created_at) VALUES ('{tenant_id}', 'x', gen_random_uuid(), sha256(''), now())",
                f"{insert}) VALUES ('{tenant_id}', '{trail.rows.key}', gen_random_uuid(), sha256('')) {upsert}",
            )
        ]
    assert states == [INSUFFICIENT_PRIVILEGE] * 5


@pytest.mark.parametrize(
    ("column", "value"), [("created_at", "now() - interval '1 day'"), ("created_at", "DEFAULT"), ("xid", "'1'::xid8")]
)
async def test_runtime_role_can_not_set_the_servers_columns(trail: Trail, column: str, value: str) -> None:
    """created_at and xid can't be inserted, so that no event is backdated."""
    statement = (
        f"INSERT INTO audit_events (tenant_id, id, action_type, status, submitted_by, {column})"
        f" VALUES ('{trail.rows.tenant_id}', gen_random_uuid(), 'llm_call', 'succeeded', 'x', {value})"
    )
    async with connect(trail.url("app"), trail.rows.tenant_id) as app:
        assert await sqlstate_of(app, statement) == INSUFFICIENT_PRIVILEGE


# C70: the runtime role can't free itself

ESCAPES = (
    "ALTER TABLE audit_events DISABLE TRIGGER ALL",
    "ALTER TABLE audit_events DISABLE TRIGGER refuse_change",
    "ALTER TABLE audit_events_default DISABLE TRIGGER refuse_change",
    "ALTER TABLE audit_events DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE audit_events NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE audit_events OWNER TO konstruct_app",
    "ALTER TABLE audit_events ADD COLUMN extra text",
    "ALTER TABLE audit_events DETACH PARTITION audit_events_default",
    "ALTER TABLE audit_events RENAME TO gone",
    "ALTER TABLE audit_events SET SCHEMA pg_temp",
    "ALTER TABLE audit_events ALTER COLUMN created_at DROP DEFAULT",
    "DROP TABLE audit_events",
    "DROP TABLE audit_events_default",
    "DROP INDEX audit_events_id_idx",
    "DROP POLICY tenant_isolation ON audit_events",
    "ALTER POLICY tenant_isolation ON audit_events USING (true)",
    "CREATE POLICY open ON audit_events USING (true)",
    "DROP TRIGGER refuse_change ON audit_events",
    "DROP TRIGGER refuse_row_change ON audit_events",
    "CREATE TRIGGER mine BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION refuse_audit_change()",
    "CREATE RULE mine AS ON INSERT TO audit_events DO INSTEAD NOTHING",
    "CREATE INDEX mine ON audit_events (id)",
    "CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
    "CREATE OR REPLACE FUNCTION current_tenant() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
    "CREATE OR REPLACE FUNCTION set_tenant(tenant uuid) RETURNS void LANGUAGE sql AS 'SELECT'",
    "ALTER FUNCTION refuse_audit_change() RENAME TO gone",
    "ALTER FUNCTION find_api_key(bytea) SECURITY INVOKER",
    "ALTER FUNCTION find_api_key(bytea) RESET ALL",
    "DROP FUNCTION refuse_audit_change() CASCADE",
    "DROP FUNCTION current_tenant() CASCADE",
    "SELECT create_audit_partition('2001-01-01')",
    "CREATE TABLE audit_events_2001_01 PARTITION OF audit_events FOR VALUES FROM ('2001-01-01') TO ('2001-02-01')",
    "SET session_replication_role = replica",
    "SET LOCAL session_replication_role = replica",
    "SET ROLE konstruct_owner",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION konstruct_owner",
    "ALTER ROLE konstruct_app BYPASSRLS",
    "ALTER ROLE konstruct_app SUPERUSER",
    "ALTER ROLE konstruct_owner PASSWORD 'x'",
    "CREATE ROLE mine",
    "GRANT konstruct_owner TO konstruct_app",
    "ALTER DEFAULT PRIVILEGES FOR ROLE konstruct_owner GRANT ALL ON TABLES TO konstruct_app",
    "REASSIGN OWNED BY konstruct_owner TO konstruct_app",
    "CREATE TABLE public.mine (x int)",
    "CREATE VIEW public.mine AS SELECT * FROM audit_events",
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "CREATE EXTENSION pg_trgm",
    "DROP EXTENSION vector",
    "ALTER DATABASE {database} OWNER TO konstruct_app",
    "UPDATE pg_catalog.pg_class SET relrowsecurity = false",
    "DELETE FROM pg_catalog.pg_trigger",
    "UPDATE alembic_version SET version_num = '001'",
    "DELETE FROM alembic_version",
    "INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), 'mine')",
    "UPDATE tenants SET name = 'mine'",
    "DELETE FROM tenants",
    "TRUNCATE tenants CASCADE",
    "LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE",
    "SELECT id FROM audit_events FOR UPDATE",
    "COPY audit_events TO PROGRAM 'cat'",
    "SELECT pg_read_file('postgresql.conf')",
    "REINDEX TABLE audit_events",
    "CLUSTER kb_documents USING kb_documents_pkey",
    "COMMENT ON TABLE audit_events IS 'mine'",
)


@pytest.mark.parametrize("statement", ESCAPES)
async def test_runtime_role_can_not_free_itself(trail: Trail, statement: str) -> None:
    """Every way around the lock is refused for want of a privilege."""
    statement = statement.format(database=database_name(trail.settings)) if "{database}" in statement else statement
    async with connect(trail.url("app"), trail.rows.tenant_id) as app:
        assert await sqlstate_of(app, statement) == INSUFFICIENT_PRIVILEGE


async def test_runtime_role_can_not_configure_the_server(trail: Trail) -> None:
    """ALTER SYSTEM, which runs outside of transactions only, is refused as well."""
    async with connect(trail.url("app")) as app:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute("ALTER SYSTEM SET fsync = off")


async def test_row_security_off_reads_nothing(trail: Trail) -> None:
    """With row_security = off a query on tenant rows fails instead of passing the policy by."""
    async with connect(trail.url("app"), trail.rows.tenant_id) as app:
        await app.execute("SET LOCAL row_security = off")
        assert await sqlstate_of(app, "SELECT id FROM audit_events") == INSUFFICIENT_PRIVILEGE


@pytest.mark.parametrize(
    "statement",
    [
        "GRANT UPDATE, DELETE, TRUNCATE ON audit_events TO konstruct_app",
        "GRANT ALL ON audit_events TO konstruct_app",
        "GRANT INSERT ON audit_events TO konstruct_app",
        "GRANT SELECT ON audit_events_default TO konstruct_app",
        "GRANT ALL ON api_keys TO konstruct_app",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO konstruct_app",
        "GRANT ALL ON SCHEMA public TO konstruct_app",
        "GRANT EXECUTE ON FUNCTION create_audit_partition(date) TO konstruct_app",
    ],
)
async def test_runtime_role_can_not_grant_itself_anything(trail: Trail, statement: str) -> None:
    """A GRANT by the runtime role is refused, or changes nothing (PostgreSQL then only warns)."""
    before = await privileges_of_runtime_role(trail)
    [error] = await attempt(trail.url("app"), None, statement)
    assert error is None or error.sqlstate == INSUFFICIENT_PRIVILEGE
    assert await privileges_of_runtime_role(trail) == before


async def privileges_of_runtime_role(trail: Trail) -> set[tuple[str, str]]:
    """Return all that the runtime role may do with tables, columns (as table.column), schemas and functions."""
    query = """
    SELECT c.relname::text AS object, p AS privilege
    FROM pg_class c, unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS p
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
      AND has_table_privilege('konstruct_app', c.oid, p)
    UNION ALL
    SELECT c.relname || '.' || a.attname, p
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped,
         unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) AS p
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
      AND has_column_privilege('konstruct_app', c.oid, a.attnum, p)
      AND NOT has_table_privilege('konstruct_app', c.oid, p)
    UNION ALL
    SELECT 'schema public', p FROM unnest('{USAGE,CREATE}'::text[]) AS p
    WHERE has_schema_privilege('konstruct_app', 'public', p)
    UNION ALL
    SELECT p.oid::regprocedure::text, 'EXECUTE' FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND has_function_privilege('konstruct_app', p.oid, 'EXECUTE')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    """
    async with connect(trail.superuser_url) as superuser:
        return {(row["object"], row["privilege"]) for row in await superuser.fetch(query)}


async def test_runtime_role_has_exactly_these_privileges(trail: Trail) -> None:
    """The complete list: nothing on partitions and keys, no change of events, no created_at and no xid."""
    async with connect(trail.superuser_url) as superuser:
        rows = await superuser.fetch(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = 'audit_events'::regclass AND attnum > 0"
        )
    insertable = {row["attname"] for row in rows} - {"created_at", "xid", "search_vector", "latency_key", "cost_key"}
    expected = {
        ("schema public", "USAGE"),
        ("alembic_version", "SELECT"),
        ("tenants", "SELECT"),
        ("audit_events", "SELECT"),
        *((f"audit_events.{column}", "INSERT") for column in insertable),
        ("audit_log_leaves", "SELECT"),
        ("audit_log_states", "SELECT"),
        ("audit_log_cursor.worked_at", "SELECT"),
        ("kb_profiles", "SELECT"),
        ("audit_idempotency_keys", "SELECT"),
        *((f"audit_idempotency_keys.{column}", "INSERT") for column in ("tenant_id", "key", "event_id", "body_hash")),
        *((t, p) for t in ("kb_documents", "kb_chunks") for p in ("SELECT", "INSERT", "UPDATE", "DELETE")),
        ("current_tenant()", "EXECUTE"),
        ("set_tenant(uuid)", "EXECUTE"),
        ("find_api_key(bytea)", "EXECUTE"),
        ("audit_event_candidates(jsonb[],text,integer)", "EXECUTE"),
        ("kb_keyword_candidates(tsquery,text[],uuid[],integer)", "EXECUTE"),
        ("kb_search_language()", "EXECUTE"),
    }
    assert await privileges_of_runtime_role(trail) == expected


async def test_partitions_are_granted_to_nobody(trail: Trail) -> None:
    """No partition has an entry in its access list for anybody but its owner."""
    query = """
    SELECT c.relname::text, a.grantee::regrole::text, a.privilege_type
    FROM pg_class c, aclexplode(c.relacl) AS a
    WHERE c.relispartition AND c.relkind = 'r' AND a.grantee <> c.relowner
    UNION ALL
    SELECT c.relname::text, 'column', t.attname::text
    FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid WHERE c.relispartition AND t.attacl IS NOT NULL
    """
    async with connect(trail.superuser_url) as superuser:
        assert [*await superuser.fetch(query)] == []


async def test_runtime_role_owns_nothing_and_belongs_to_nobody(trail: Trail) -> None:
    """The runtime role owns no object in the cluster, is a member of no role and has no attribute but LOGIN."""
    async with connect(trail.superuser_url) as superuser:
        owned = await superuser.fetchval(
            "SELECT count(*) FROM pg_shdepend WHERE refobjid = 'konstruct_app'::regrole AND deptype = 'o'"
        )
        databases = await superuser.fetchval("SELECT count(*) FROM pg_database WHERE datdba = 'konstruct_app'::regrole")
        memberships = await superuser.fetchval(
            "SELECT count(*) FROM pg_auth_members WHERE member = 'konstruct_app'::regrole"
        )
        role = await superuser.fetchrow(
            "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls"
            " FROM pg_roles WHERE rolname = 'konstruct_app'"
        )
    assert role is not None
    assert (owned, databases, memberships) == (0, 0, 0)
    assert tuple(role.values()) == (True, False, False, False, False, False)


# C71: nothing cascades into the trail


async def test_events_outlive_the_document_that_they_are_about(
    database: Database, settings: Settings, tenant_a: TestTenant
) -> None:
    """The owner deletes a document with its chunks; the event about it stays, with the old id."""
    rows = await add_rows(settings, tenant_a.id)
    call = LlmCall(model="gpt-4o", metadata={"documentId": str(rows.document_id)})
    logged = await AuditLogger(database, tenant_a.principal, Limits()).log_llm_call(call)
    async with tenant_transaction(settings.database.owner_database_url, tenant_a.id) as owner:
        deleted = await owner.execute("DELETE FROM kb_documents WHERE id = $1", rows.document_id)
    async with connect(settings.database.database_url, tenant_a.id) as app:
        chunks = await app.fetchval("SELECT count(*) FROM kb_chunks")
        events = {
            row["id"]: row["about"]
            for row in await app.fetch("SELECT id, metadata ->> 'documentId' AS about FROM audit_events")
        }
    assert logged.event is not None
    assert (deleted, chunks) == ("DELETE 1", 0)
    assert events == {rows.event_id: None, logged.event.id: str(rows.document_id)}


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("DELETE FROM tenants WHERE id = '{}'", FOREIGN_KEY_VIOLATION),
        ("UPDATE tenants SET id = gen_random_uuid() WHERE id = '{}'", FOREIGN_KEY_VIOLATION),
        ("TRUNCATE tenants CASCADE", INSUFFICIENT_PRIVILEGE),
    ],
)
async def test_events_outlive_their_tenant(trail: Trail, statement: str, state: str) -> None:
    """As long as it has events, a tenant can't be removed or renumbered, and a cascade stops at the trail."""
    [error] = await attempt(trail.url("owner"), None, statement.format(trail.rows.tenant_id))
    assert error is not None
    assert error.sqlstate == state
    assert await trail.now_stored() == trail.stored


async def test_retention_drops_whole_partitions(trail: Trail, superuser: asyncpg.Connection) -> None:
    """The one way out that is left to the owner: dropping a partition."""
    await superuser.execute("SET LOCAL ROLE konstruct_owner")
    await superuser.execute(f"DROP TABLE {trail.partitions[0]}")
    await superuser.execute("RESET ROLE")
    assert await superuser.fetchval("SELECT count(*) FROM audit_events") == 0


async def test_a_new_event_is_accepted(trail: Trail, superuser: asyncpg.Connection) -> None:
    """What is refused above is refused for what it changes: inserting goes on working."""
    await superuser.execute("SELECT set_tenant($1)", trail.rows.tenant_id)
    await superuser.execute("SET LOCAL ROLE konstruct_app")
    new = await insert_event(superuser, trail.rows.tenant_id)
    assert {row["id"] for row in await superuser.fetch("SELECT id FROM audit_events")} == {trail.rows.event_id, new}


# C72: the API has no such door


def reachable_types(type_: graphql.GraphQLNamedType, seen: set[str] | None = None) -> set[str]:
    """Return the names of all object types that can be reached from a type."""
    seen = set() if seen is None else seen
    if type_.name not in seen:
        seen.add(type_.name)
        for field in getattr(type_, "fields", {}).values():
            reachable_types(graphql.get_named_type(field.type), seen)
    return seen


def test_no_mutation_changes_or_removes_events() -> None:
    """Mutations that have to do with audit events only log; the others are about documents."""
    sdl = Path(graphql_schema.__file__).with_name("schema.graphql").read_text()
    schema = graphql.build_schema(sdl)
    assert schema.mutation_type is not None
    mutations = schema.mutation_type.fields
    logs = {name for name in mutations if name.startswith("log")}
    assert {"logLlmCall", "logToolCall", "logEscalation", "logEvents"} <= logs
    for name in mutations.keys() - logs:
        assert "KbDocument" in name, f"{name}: is it certain that it changes no audit event?"
        assert "AuditEvent" not in reachable_types(graphql.get_named_type(mutations[name].type)), name
    for name in logs:
        for argument in mutations[name].args.values():
            inputs = graphql.get_named_type(argument.type)
            # An event's own id is never sent in: parentEventId refers, it does not choose what is written.
            assert "id" not in getattr(inputs, "fields", {}), name
    assert schema.subscription_type is None or not schema.subscription_type.fields.keys() & mutations.keys()


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_no_route_takes_changes(settings: Settings, method: str) -> None:
    """PUT, PATCH and DELETE are answered 404 or 405 on every route and on REST-like guesses."""
    app: Any = create_app(settings)
    starlette = app
    while not isinstance(starlette, Starlette):
        starlette = starlette._app
    routes = [str(getattr(route, "path", "")) for route in starlette.routes]
    assert "/graphql" in routes
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for path in {*routes, "/audit_events", "/events/1", "/graphql/1"}:
            answer = await client.request(method, path)
            assert answer.status_code in {404, 405}, f"{method} {path}: {answer.status_code}"
