"""Tenants never meet: row level security by SQL, the tenant session, and the predicate that it adds."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import (
    Delete,
    Executable,
    Select,
    Update,
    delete,
    event,
    exists,
    func,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import aliased

from app.audit import AuditLogger, LlmCall
from app.audit.recording import LogOutcome
from app.auth.api_keys import hash_secret
from app.database.database import Database
from app.database.embedded import EmbeddedPostgres
from app.database.session import _SETTINGS, TenantSession
from app.database.statements import compile_statement
from app.database.tenant_owned import TenantId, TenantOwned
from app.embeddings.none import NoProvider
from app.kb.documents import ChunkInput, DocumentInput, list_chunks
from app.kb.ingest import DocumentIngester, IngestOutcome
from app.models import AuditEvent, Base, KBChunk, KnowledgeBaseDocument
from app.pagination import PageRequest
from app.settings import Limits, Settings
from tests.database.rows import (
    INSUFFICIENT_PRIVILEGE,
    READABLE_TABLES,
    WRITABLE_TABLES,
    TenantRows,
    add_rows,
    database_name,
    insert_chunk,
    insert_document,
    insert_event,
    insert_into,
    insert_key,
    sqlstate_of,
    superuser_url,
    tenant_transaction,
)
from tests.support.database import (
    DIMENSIONS,
    TestTenant,
    connect,
    embeddings_by,
    fresh_database,
    new_tenant,
    pool_of,
    stored_events,
    wait_until,
)

UNIQUE_VIOLATION = "23505"
FOREIGN_KEY_VIOLATION = "23503"

EXPECTED_POLICY = ("tenant_isolation", "PERMISSIVE", ["public"], "ALL")

_TENANT_RELATIONS = """
SELECT c.oid, c.relname::text AS name, c.relkind::text AS kind, c.relispartition AS is_partition,
       c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced
FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
  AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)
ORDER BY c.relname
"""

_POLICIES = """
SELECT policyname::text AS name, permissive, roles::text[] AS roles, cmd, qual, with_check
FROM pg_policies WHERE schemaname = 'public' AND tablename = $1 ORDER BY policyname
"""

# The exceptions, each for one role: functions of the owner look up keys before their tenant is known, and candidates
# with the tenant bound inside; the sealer reads all events and writes the log.
_OTHER_POLICIES = {
    "api_keys": {"owner_lookup": ("konstruct_owner", "SELECT")},
    "audit_events": {
        "owner_search": ("konstruct_owner", "SELECT"),
        "sealer": ("konstruct_sealer", "SELECT"),
    },
    "audit_log_leaves": {"sealer": ("konstruct_sealer", "ALL")},
    "audit_log_states": {"sealer": ("konstruct_sealer", "ALL")},
    "kb_chunks": {"owner_search": ("konstruct_owner", "SELECT")},
}

_UNSAFE_VIEWS = """
SELECT c.relname::text FROM pg_class c
WHERE c.relkind IN ('v', 'm') AND c.relnamespace = 'public'::regnamespace
  AND has_any_column_privilege('konstruct_app', c.oid, 'SELECT')
  AND (c.relkind = 'm' OR NOT COALESCE('security_invoker=true' = ANY (c.reloptions), false))
ORDER BY c.relname
"""

_DEFINER_FUNCTIONS = """
SELECT p.oid::regprocedure::text AS name, COALESCE(p.proconfig, '{}') AS configuration,
       p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) WHERE grantee = 0) AS is_public
FROM pg_proc p
WHERE p.prosecdef AND p.pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
ORDER BY 1
"""


@pytest.fixture
async def rows_a(settings: Settings, tenant_a: TestTenant) -> TenantRows:
    """Tenant A's rows, one in each table."""
    return await add_rows(settings, tenant_a.id)


@pytest.fixture
async def rows_b(settings: Settings, tenant_b: TestTenant) -> TenantRows:
    """Tenant B's rows, one in each table."""
    return await add_rows(settings, tenant_b.id)


@pytest.fixture(scope="module")
async def own_settings(postgres: EmbeddedPostgres) -> Settings:
    """A database of this module's own, whose schema its tests may change inside rolled-back transactions."""
    return await fresh_database(postgres)


@pytest.fixture
async def superuser(postgres: EmbeddedPostgres, own_settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """The superuser in the module's own database, in a transaction that is rolled back."""
    async with connect(superuser_url(postgres, own_settings)) as connection:
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        await transaction.rollback()


async def find_isolation_gaps(connection: asyncpg.Connection) -> list[str]:
    """Return what is missing from the lock of each table and partition with tenant rows."""
    gaps = []
    for relation in await connection.fetch(_TENANT_RELATIONS):
        name = relation["name"]
        if not relation["enabled"]:
            gaps.append(f"{name}: row level security is off")
        if not relation["forced"]:
            gaps.append(f"{name}: not forced")
        policies = await connection.fetch(_POLICIES, name)
        allowed = _OTHER_POLICIES.get(name, {})
        gaps.extend(
            f"{name}: policy {p['name']}" for p in policies if p["name"] not in allowed.keys() | {"tenant_isolation"}
        )
        gaps.extend(
            f"{name}: {p['name']} is for {p['roles']} {p['cmd']}"
            for p in policies
            if p["name"] in allowed and (*p["roles"], p["cmd"]) != allowed[p["name"]]
        )
        ours = [p for p in policies if p["name"] == "tenant_isolation"]
        condition = "(tenant_id = current_tenant())"
        if [(p["name"], p["permissive"], p["roles"], p["cmd"]) for p in ours] != [EXPECTED_POLICY]:
            gaps.append(f"{name}: no policy for everyone and everything")
        elif (ours[0]["qual"], ours[0]["with_check"]) != (condition, condition):
            gaps.append(f"{name}: USING {ours[0]['qual']} WITH CHECK {ours[0]['with_check']}")
    return gaps


# C05: the catalogue


async def test_every_table_and_partition_with_tenant_rows_is_locked(settings: Settings) -> None:
    """Row level security is enabled, forced and has the one policy on every relation with a tenant_id."""
    async with connect(settings.database.owner_database_url) as owner:
        relations = await owner.fetch(_TENANT_RELATIONS)
        gaps = await find_isolation_gaps(owner)
    tables = [relation["name"] for relation in relations if not relation["is_partition"]]
    assert tables == ["api_keys", *READABLE_TABLES]
    assert sum(relation["is_partition"] for relation in relations) >= 14
    assert gaps == []


@pytest.mark.parametrize(
    ("statement", "gap"),
    [
        ("ALTER TABLE kb_chunks DISABLE ROW LEVEL SECURITY", "kb_chunks: row level security is off"),
        ("ALTER TABLE kb_documents NO FORCE ROW LEVEL SECURITY", "kb_documents: not forced"),
        ("DROP POLICY tenant_isolation ON audit_events", "audit_events: no policy for everyone and everything"),
        (
            "ALTER POLICY tenant_isolation ON audit_events_default WITH CHECK (true)",
            "audit_events_default: USING (tenant_id = current_tenant()) WITH CHECK true",
        ),
        ("CREATE POLICY wide ON api_keys USING (true)", "api_keys: policy wide"),
        ("ALTER POLICY owner_lookup ON api_keys TO PUBLIC", "api_keys: owner_lookup is for ['public'] SELECT"),
        ("CREATE TABLE notes (tenant_id uuid)", "notes: row level security is off"),
        (
            "CREATE TABLE audit_events_2001 PARTITION OF audit_events FOR VALUES FROM ('2001-01-01') TO ('2002-01-01')",
            "audit_events_2001: row level security is off",
        ),
    ],
)
async def test_a_lifted_lock_is_noticed(superuser: asyncpg.Connection, statement: str, gap: str) -> None:
    """The catalogue check of this module names whichever lock is missing."""
    await superuser.execute(statement)
    assert gap in await find_isolation_gaps(superuser)


async def test_partitions_are_closed_to_the_runtime_role(
    settings: Settings, tenant_a: TestTenant, rows_a: TenantRows, rows_b: TenantRows
) -> None:
    """Read or written directly, every partition answers "permission denied"."""
    async with connect(settings.database.owner_database_url) as owner:
        names = [row["name"] for row in await owner.fetch(_TENANT_RELATIONS) if row["is_partition"]]
    async with connect(settings.database.database_url, tenant_a.id) as app:
        reads = {name: await sqlstate_of(app, f"SELECT * FROM {name}") for name in names}
        writes = {
            name: await sqlstate_of(app, f"INSERT INTO {name} (tenant_id, id) VALUES ($1, $2)", tenant_a.id, uuid4())
            for name in names
        }
    assert reads == dict.fromkeys(names, INSUFFICIENT_PRIVILEGE)
    assert writes == dict.fromkeys(names, INSUFFICIENT_PRIVILEGE)


async def test_partitions_are_locked_even_when_granted(own_settings: Settings, superuser: asyncpg.Connection) -> None:
    """A partition that is granted by mistake still shows one tenant's rows only: the policy is its own."""
    tenant_ids = [uuid4(), uuid4()]
    for tenant_id in tenant_ids:
        await superuser.execute("INSERT INTO tenants (id, name) VALUES ($1, 'T')", tenant_id)
        await insert_event(superuser, tenant_id)
    name = await superuser.fetchval("SELECT tableoid::regclass::text FROM audit_events LIMIT 1")
    await superuser.execute(f"GRANT SELECT ON {name} TO konstruct_app")
    await superuser.execute("SELECT set_tenant($1)", tenant_ids[0])
    await superuser.execute("SET LOCAL ROLE konstruct_app")
    seen = await superuser.fetch(f"SELECT tenant_id FROM {name}")
    await superuser.execute("RESET ROLE")
    assert [row["tenant_id"] for row in seen] == tenant_ids[:1]


# C02: no tenant, an empty one, and one that is none


@pytest.mark.parametrize(
    ("role", "table"),
    # The owner lists the tenants, and looks candidates up in the search indexes as whoever calls its functions.
    [
        *product(["app", "owner"], sorted({*WRITABLE_TABLES} - {"audit_events", "kb_chunks"})),
        ("app", "audit_events"),
        ("app", "kb_chunks"),
        ("app", "tenants"),
    ],
)
async def test_no_tenant_means_no_rows(
    settings: Settings, rows_a: TenantRows, rows_b: TenantRows, role: str, table: str
) -> None:
    """A fresh connection, one after a tenant's commit, and an empty setting see nothing, without an error."""
    url = settings.database.database_url if role == "app" else settings.database.owner_database_url
    count = f"SELECT count(*) FROM {table}"
    async with connect(url) as connection:
        never_set = await connection.fetchval(count)
        async with connection.transaction():
            await connection.execute("SELECT set_tenant($1)", rows_a.tenant_id)
            as_tenant = await connection.fetchval(count)
        after_commit = await connection.fetchval(count)
        setting = await connection.fetchval("SELECT current_setting('app.current_tenant', true)")
        await connection.execute("SET app.current_tenant = ''")
        empty = await connection.fetchval(count)
        await connection.execute("SET app.current_tenant = 'not-a-uuid'")
        state = await sqlstate_of(connection, f"SELECT 1 / count(*) FROM {table}")
    assert (never_set, as_tenant, after_commit, setting, empty) == (0, 1, 0, "", 0)
    # 22P02: not a uuid; 22012: divided by the count of zero rows. Accepted (None) would mean that rows were seen.
    assert state in {"22P02", "22012"}


async def test_api_keys_are_closed_to_the_runtime_role(settings: Settings, tenant_a: TestTenant) -> None:
    """The runtime role can't read or write the table of keys, not even its own tenant's."""
    async with connect(settings.database.database_url, tenant_a.id) as app:
        for statement in (
            "SELECT key_hash FROM api_keys",
            "SELECT count(*) FROM api_keys",
            "UPDATE api_keys SET revoked_at = NULL",
            "DELETE FROM api_keys",
            "INSERT INTO api_keys DEFAULT VALUES",
        ):
            assert await sqlstate_of(app, statement) == INSUFFICIENT_PRIVILEGE, statement


@pytest.mark.parametrize("table", WRITABLE_TABLES)
@pytest.mark.parametrize("written", ["own", "none"])
async def test_no_row_is_written_without_a_tenant(
    settings: Settings, rows_a: TenantRows, table: str, written: str
) -> None:
    """Outside a tenant session an insert is refused by the policy, with a tenant id in the row or without."""
    tenant_id = rows_a.tenant_id if written == "own" else None
    async with connect(settings.database.database_url) as app:
        with pytest.raises(asyncpg.PostgresError) as caught:
            await insert_into(table, app, rows_a, tenant_id)
    assert caught.value.sqlstate == INSUFFICIENT_PRIVILEGE


async def test_set_tenant_needs_a_tenant(settings: Settings) -> None:
    """`set_tenant(NULL)` is an error, not a session without a tenant."""
    async with connect(settings.database.database_url) as app:
        assert await sqlstate_of(app, "SELECT set_tenant(NULL)") == "22004"


# C17: writing for another tenant


@pytest.mark.parametrize("table", WRITABLE_TABLES)
async def test_no_row_is_written_for_another_tenant(
    settings: Settings, rows_a: TenantRows, rows_b: TenantRows, table: str
) -> None:
    """As tenant A, a row of tenant B is refused by WITH CHECK, whatever the table; its own is accepted."""
    async with connect(settings.database.database_url, rows_a.tenant_id) as app:
        async with app.transaction():
            await insert_into(table, app, rows_a, rows_a.tenant_id)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            async with app.transaction():
                await insert_into(table, app, rows_a, rows_b.tenant_id)


async def test_copy_does_not_write_for_another_tenant(
    settings: Settings, rows_a: TenantRows, rows_b: TenantRows
) -> None:
    """COPY into a table with row level security is refused, whatever rows it carries."""
    columns = ["tenant_id", "id", "action_type", "status", "submitted_by"]
    async with connect(settings.database.database_url, rows_a.tenant_id) as app:
        with pytest.raises(asyncpg.PostgresError) as caught:
            async with app.transaction():
                await app.copy_records_to_table(
                    "audit_events",
                    columns=columns,
                    records=[(rows_b.tenant_id, uuid4(), "llm_call", "succeeded", "x")],
                )
    assert caught.value.sqlstate in {INSUFFICIENT_PRIVILEGE, "0A000"}
    assert [event["id"] for event in await stored_events(settings, rows_b.tenant_id)] == [rows_b.event_id]


async def test_returning_shows_the_own_row(settings: Settings, rows_a: TenantRows) -> None:
    """INSERT ... RETURNING passes the policy's USING part too and answers."""
    statement = (
        "INSERT INTO audit_events (tenant_id, id, action_type, status, submitted_by)"
        " VALUES ($1, $2, 'llm_call', 'succeeded', 'x') RETURNING id"
    )
    new = uuid4()
    async with connect(settings.database.database_url, rows_a.tenant_id) as app:
        assert await app.fetchval(statement, rows_a.tenant_id, new) == new


@pytest.mark.parametrize("table", ["kb_documents", "kb_chunks"])
async def test_rows_can_not_be_moved_to_or_taken_from_another_tenant(
    settings: Settings, rows_a: TenantRows, rows_b: TenantRows, table: str
) -> None:
    """UPDATE and DELETE reach own rows only, and no row can be handed to another tenant."""
    async with connect(settings.database.database_url, rows_a.tenant_id) as app:
        handed_over = await sqlstate_of(app, f"UPDATE {table} SET tenant_id = $1", rows_b.tenant_id)
        taken = await app.execute(f"UPDATE {table} SET metadata = '{{}}' WHERE tenant_id = $1", rows_b.tenant_id)
        deleted = await app.execute(f"DELETE FROM {table} WHERE tenant_id = $1", rows_b.tenant_id)
        everything = await app.execute(f"DELETE FROM {table}")
    assert (handed_over, taken, deleted, everything) == (INSUFFICIENT_PRIVILEGE, "UPDATE 0", "DELETE 0", "DELETE 1")


# C06, C07: views and functions


async def test_no_view_reads_with_its_owners_eyes(settings: Settings, superuser: asyncpg.Connection) -> None:
    """Every view that the runtime role may read is a security_invoker view, and none is materialised."""
    async with connect(settings.database.owner_database_url) as owner:
        assert [*await owner.fetch(_UNSAFE_VIEWS)] == []
    await superuser.execute(
        """
        CREATE VIEW plain AS SELECT * FROM kb_documents;
        CREATE VIEW safe WITH (security_invoker = true) AS SELECT * FROM kb_documents;
        CREATE MATERIALIZED VIEW stored AS SELECT * FROM kb_documents;
        GRANT SELECT ON plain, safe, stored TO konstruct_app
        """
    )
    assert [row["relname"] for row in await superuser.fetch(_UNSAFE_VIEWS)] == ["plain", "stored"]


async def test_definer_functions_are_narrow(settings: Settings) -> None:
    """The SECURITY DEFINER functions pin their search_path and can't be called by everyone."""
    async with connect(settings.database.owner_database_url) as owner:
        functions = [dict(row) for row in await owner.fetch(_DEFINER_FUNCTIONS)]
    assert functions == [
        {
            "name": "audit_event_candidates(jsonb[],text,integer)",
            "configuration": [
                "enable_seqscan=off",
                "enable_indexscan=off",
                "enable_indexonlyscan=off",
                "search_path=pg_catalog, public, pg_temp",
            ],
            "is_public": False,
        },
        {
            "name": "find_api_key(bytea)",
            "configuration": ["search_path=pg_catalog, pg_temp"],
            "is_public": False,
        },
        {
            "name": "kb_keyword_candidates(tsquery,text[],uuid[],integer)",
            "configuration": [
                "enable_seqscan=off",
                "enable_indexscan=off",
                "enable_indexonlyscan=off",
                "search_path=pg_catalog, public, pg_temp",
            ],
            "is_public": False,
        },
    ]


async def test_functions_of_the_policy_are_callable_and_the_owners_are_not(settings: Settings) -> None:
    """The runtime role may call what a tenant session needs, and nothing of the owner's tools."""
    functions = (
        "current_tenant()", "set_tenant(uuid)", "find_api_key(bytea)", "create_audit_partition(date)",
        "refuse_audit_change()",
    )  # fmt: skip
    async with connect(settings.database.database_url) as app:
        callable_ = {
            name: await app.fetchval("SELECT has_function_privilege(current_user, $1, 'EXECUTE')", name)
            for name in functions
        }
    assert callable_ == {
        "current_tenant()": True,
        "set_tenant(uuid)": True,
        "find_api_key(bytea)": True,
        "create_audit_partition(date)": False,
        "refuse_audit_change()": False,
    }


async def test_key_lookup_finds_by_the_whole_secret_only(
    settings: Settings, tenant_a: TestTenant, tenant_b: TestTenant
) -> None:
    """As tenant A, find_api_key says nothing of B without the hash of B's whole secret; a revoked key is not found."""
    find = "SELECT tenant_id FROM find_api_key($1)"
    guesses: list[bytes | None] = [None, b"", bytes(32), hash_secret(tenant_b.api_key)[:31], b"%"]
    async with connect(settings.database.database_url, tenant_a.id) as app:
        guessed = [await app.fetch(find, guess) for guess in guesses]
        known = await app.fetchval(find, hash_secret(tenant_b.api_key))
    async with tenant_transaction(settings.database.owner_database_url, tenant_b.id) as owner:
        await owner.execute("UPDATE api_keys SET revoked_at = now() WHERE id = $1", tenant_b.key_id)
    async with connect(settings.database.database_url) as app:
        revoked = await app.fetch(find, hash_secret(tenant_b.api_key))
    assert guessed == [[]] * len(guesses)
    assert known == tenant_b.id
    assert revoked == []


async def test_key_lookup_does_not_use_tables_of_the_session(settings: Settings, tenant_a: TestTenant) -> None:
    """A temporary table named like the real one does not fool the definer function."""
    async with connect(settings.database.database_url) as app:
        await app.execute("CREATE TEMP TABLE api_keys (key_hash bytea); SET search_path = pg_temp, public")
        found = await app.fetchval("SELECT tenant_id FROM public.find_api_key($1)", hash_secret(tenant_a.api_key))
    assert found == tenant_a.id


# C08, C09: what keys and constraints would tell


async def test_a_foreign_documents_id_is_as_good_as_a_random_one(
    settings: Settings, rows_a: TenantRows, rows_b: TenantRows
) -> None:
    """A chunk can't be attached to another tenant's document, and the refusal does not tell whether it exists."""
    states = []
    for document_id in (rows_a.document_id, uuid4()):
        async with connect(settings.database.database_url, rows_b.tenant_id) as app:
            with pytest.raises(asyncpg.PostgresError) as caught:
                await insert_chunk(app, rows_b.tenant_id, document_id)
            states.append(caught.value.sqlstate)
    assert states == [FOREIGN_KEY_VIOLATION, FOREIGN_KEY_VIOLATION]


async def test_an_unknown_tenant_can_not_write(settings: Settings) -> None:
    """A tenant id that no tenant has stores nothing, in any table."""
    stranger = uuid4()
    async with connect(settings.database.database_url, stranger) as app:
        states = []
        for insert in (
            lambda: insert_event(app, stranger),
            lambda: insert_key(app, stranger, "k", uuid4()),
            lambda: insert_document(app, stranger, "d"),
        ):
            with pytest.raises(asyncpg.PostgresError) as caught:
                async with app.transaction():
                    await insert()
            states.append(caught.value.sqlstate)
    assert states == [FOREIGN_KEY_VIOLATION] * 3


async def test_keys_are_unique_within_a_tenant_only(
    settings: Settings, tenant_a: TestTenant, tenant_b: TestTenant
) -> None:
    """Two tenants use the same idempotency key, external id and event id; each sees its own, none is a duplicate."""
    shared = uuid4()
    for tenant in (tenant_a, tenant_b):
        async with tenant_transaction(settings.database.database_url, tenant.id) as app:
            await insert_event(app, tenant.id, shared)
            await insert_key(app, tenant.id, "k1", shared)
            await insert_document(app, tenant.id, "handbook")
    for tenant in (tenant_a, tenant_b):
        async with connect(settings.database.database_url, tenant.id) as app:
            for table in ("audit_events", "audit_idempotency_keys", "kb_documents"):
                owners = [row["tenant_id"] for row in await app.fetch(f"SELECT tenant_id FROM {table}")]
                assert owners == [tenant.id], table
            with pytest.raises(asyncpg.UniqueViolationError):
                await insert_key(app, tenant.id, "k1", shared)


async def test_no_unique_constraint_spans_tenants(settings: Settings) -> None:
    """Every unique index on tenant rows starts with tenant_id; the one exception is the hash of 256 random bits."""
    query = """
    SELECT c.relname::text AS name
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_attribute tenant ON tenant.attrelid = i.indrelid AND tenant.attname = 'tenant_id'
    WHERE i.indisunique AND i.indkey[0] <> tenant.attnum AND c.relnamespace = 'public'::regnamespace
    """
    async with connect(settings.database.owner_database_url) as owner:
        assert [row["name"] for row in await owner.fetch(query)] == ["api_keys_key_hash_key"]


async def test_audit_logger_keeps_idempotency_keys_of_tenants_apart(
    database: Database, settings: Settings, tenant_a: TestTenant, tenant_b: TestTenant
) -> None:
    """The same key of two tenants records two events; a retry finds the own tenant's event."""
    call = LlmCall(model="gpt-4o", input_summary="secret", idempotency_key="k1")
    loggers = [AuditLogger(database, tenant.principal, Limits()) for tenant in (tenant_a, tenant_b)]
    first = [await logger.log_llm_call(call) for logger in loggers]
    again = [await logger.log_llm_call(call) for logger in loggers]
    assert [result.outcome for result in first] == [LogOutcome.RECORDED, LogOutcome.RECORDED]
    assert [result.outcome for result in again] == [LogOutcome.DUPLICATE, LogOutcome.DUPLICATE]
    ids = [result.event.id for result in first if result.event]
    assert [result.event.id for result in again if result.event] == ids
    assert len(set(ids)) == 2
    for tenant, event_id in zip((tenant_a, tenant_b), ids, strict=True):
        assert [row["id"] for row in await stored_events(settings, tenant.id)] == [event_id]


# C14: after the commit


async def test_what_was_written_can_be_read_after_the_commit(database: Database, tenant_a: TestTenant) -> None:
    """Results stay complete after their session ended, and the next session of the request sees them again."""
    logged = await AuditLogger(database, tenant_a.principal, Limits()).log_llm_call(LlmCall(model="gpt-4o"))
    ingester = DocumentIngester(database, embeddings_by(database, NoProvider(DIMENSIONS)), Limits())
    vector = [1.0] + [0.0] * (DIMENSIONS - 1)
    source = DocumentInput(external_id="d", title="D", chunks=[ChunkInput(content="passage", embedding=vector)])
    ingested = await ingester.ingest(tenant_a.id, source)
    assert logged.event is not None
    assert logged.event.action_name == "gpt-4o"
    assert logged.event.created_at is not None
    assert ingested.outcome is IngestOutcome.CREATED
    assert ingested.document is not None
    assert (ingested.document.external_id, ingested.document.chunk_count) == ("d", 1)
    async with database.tenant_session(tenant_a.id) as session:
        chunks = await list_chunks(session, ingested.document.id, PageRequest(10, None), Limits())
        events = (await session.scalars(select(AuditEvent.id))).all()
    assert [chunk.content for chunk in chunks.items] == ["passage"]
    assert events == [logged.event.id]


# C01, C16, cancellation: sessions on a shared pool


async def seen_events(session: TenantSession) -> list[UUID]:
    """Return the ids of all events that a session sees by itself, without the ORM's predicate."""
    return [row.id for row in await session.execute(text("SELECT id FROM audit_events"))]


async def test_nothing_is_carried_over_on_a_pooled_connection(
    settings: Settings, rows_a: TenantRows, rows_b: TenantRows
) -> None:
    """On one connection 200 sessions alternate between tenants, every fifth fails, and each sees its own tenant."""
    database = pool_of(settings, 1)
    setting = text("SELECT current_setting('app.current_tenant', true) AS tenant, pg_backend_pid() AS pid")
    seen = []
    between = []
    pids = set()
    failures: Counter[str] = Counter()
    for turn in range(200):
        rows = (rows_a, rows_b)[turn % 2]
        try:
            async with database.tenant_session(TenantId(rows.tenant_id)) as session:
                assert await seen_events(session) == [rows.event_id]
                seen.append(rows.event_id)
                if turn % 10 == 4:
                    await session.execute(text("SELECT 1 / 0"))
                if turn % 10 == 9:
                    raise ValueError("the caller's own failure")
        except (DBAPIError, ValueError) as error:
            failures[type(error).__name__] += 1
        async with database.engine.connect() as connection:
            row = (await connection.execute(setting)).one()
            between.append((row.tenant, (await connection.execute(text("SELECT id FROM audit_events"))).all()))
            pids.add(row.pid)
    await database.close()
    assert seen == [rows_a.event_id, rows_b.event_id] * 100
    assert (sum(failures.values()), failures["ValueError"]) == (40, 20)
    assert len(pids) == 1
    assert between == [("", [])] * 200


async def test_the_tenant_is_set_in_one_way_only(
    postgres: EmbeddedPostgres, own_settings: Settings, tmp_path: Path
) -> None:
    """With log_statement = all the server's log shows set_tenant once a transaction, and no other way to set it."""
    tenants = [await new_tenant(own_settings), await new_tenant(own_settings)]
    async with connect(superuser_url(postgres, own_settings)) as superuser:
        await superuser.execute(f"ALTER DATABASE {database_name(own_settings)} SET log_statement = 'all'")
    log = Path(postgres._data) / "server.log"
    start = log.stat().st_size
    database = pool_of(own_settings, 1)
    for turn in range(10):
        async with database.tenant_session(tenants[turn % 2].id) as session:
            await seen_events(session)
    await database.close()
    async with connect(superuser_url(postgres, own_settings)) as superuser:
        await superuser.execute(f"ALTER DATABASE {database_name(own_settings)} RESET log_statement")
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode().splitlines()
    statements = [line.split("LOG:", 1)[1].strip() for line in lines if "LOG:" in line]
    assert sum("FROM audit_events" in statement for statement in statements) == 10
    about_tenant = [s for s in statements if "current_tenant" in s or "set_tenant" in s or "set_config" in s]
    assert len(about_tenant) == 10
    # The settings of the index of vectors, which come with it, are about no tenant.
    expected = [f"statement: BEGIN; SELECT set_tenant('{tenants[turn % 2].id}'), {_SETTINGS}" for turn in range(10)]
    assert about_tenant == expected
    assert "tenant" not in _SETTINGS


@pytest.mark.parametrize("failure", [ValueError, asyncio.CancelledError])
async def test_a_failed_session_stores_nothing(
    database: Database, settings: Settings, tenant_a: TestTenant, failure: type[BaseException]
) -> None:
    """What was written in a session that ends with an error or a cancellation is rolled back."""
    logger = AuditLogger(database, tenant_a.principal, Limits())
    outcomes = []

    async def write_and_fail() -> None:
        async with database.tenant_session(tenant_a.id) as session:
            outcomes.append((await logger.within(session).log_llm_call(LlmCall(model="gpt-4o"))).outcome)
            raise failure

    with pytest.raises(failure):
        await write_and_fail()
    assert outcomes == [LogOutcome.RECORDED]
    assert [*await stored_events(settings, tenant_a.id)] == []


async def test_concurrent_sessions_do_not_mix(settings: Settings, rows_a: TenantRows, rows_b: TenantRows) -> None:
    """100 slow sessions at once, alternating tenants over ten connections, three rounds: no foreign row, no error."""
    database = pool_of(settings, 10)

    async def read(rows: TenantRows) -> bool:
        async with database.tenant_session(TenantId(rows.tenant_id)) as session:
            before = await seen_events(session)
            await session.execute(text("SELECT pg_sleep(0.002)"))
            by_orm = (await session.scalars(select(AuditEvent.id))).all()
            return before == by_orm == [rows.event_id]

    for _ in range(3):
        answers = await asyncio.gather(*(read((rows_a, rows_b)[turn % 2]) for turn in range(100)))
        assert answers == [True] * 100
    await database.close()


async def test_cancelled_sessions_leave_nothing_behind(settings: Settings) -> None:
    """200 sessions cancelled at any moment leave no open transaction and no tenant; acknowledged writes are there."""
    tenants = [await new_tenant(settings), await new_tenant(settings)]
    database = pool_of(settings, 5)
    chance = random.Random(7)
    acknowledged: list[UUID] = []

    async def write(tenant: TestTenant) -> None:
        async with database.tenant_session(tenant.id) as session:
            new = uuid4()
            values = {"tenant_id": tenant.id, "id": new, "action_type": "llm_call", "status": "succeeded"}
            await session.execute(AuditEvent.__table__.insert().values(**values, submitted_by="x"))  # type: ignore[attr-defined]
            await session.execute(text("SELECT pg_sleep(0.02)"))
        acknowledged.append(new)

    async def write_for(seconds: float, tenant: TestTenant) -> bool:
        task = asyncio.create_task(write(tenant))
        await asyncio.wait([task], timeout=seconds)
        task.cancel()
        return isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)

    cancelled = rounds = 0
    while cancelled < 200:
        # Among those that are cut short, two that are not: theirs are the writes that must not get lost.
        impatient = [write_for(chance.uniform(0, 0.1), tenants[turn % 2]) for turn in range(20)]
        patient = [write_for(30, tenant) for tenant in tenants]
        cancelled += sum(await asyncio.gather(*impatient, *patient))
        rounds += 1
    pool = database.engine.pool
    assert pool.checkedout() == 0  # type: ignore[attr-defined]
    connections = [await database.engine.connect() for _ in range(5)]
    left = []
    for connection in connections:
        row = await connection.execute(text("SELECT COALESCE(current_setting('app.current_tenant', true), '')"))
        left.append((row.scalar_one(), (await connection.execute(text("SELECT id FROM audit_events"))).all()))
    for connection in connections:
        await connection.close()
    async with connect(settings.database.database_url) as app:
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user"
            " AND pid <> pg_backend_pid() AND state <> 'idle'"
        )

        async def is_quiet() -> bool:
            return bool(await app.fetchval(query) == 0)

        # A backend whose client went away ends a moment later; one in a forgotten transaction stays.
        quiet = await wait_until(is_quiet, seconds=30)
    await database.close()
    stored = {row["id"] for tenant in tenants for row in await stored_events(settings, tenant.id)}
    assert len(acknowledged) >= 2 * rounds
    assert left == [("", [])] * 5
    assert quiet
    assert set(acknowledged) <= stored


# The predicate: the second lock, tried alone with the first one open


@contextmanager
def captured_sql(database: Database) -> Iterator[list[str]]:
    """Collect the SQL that goes to the database."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)


def tenant_owned_classes() -> list[type[Any]]:
    """Return every mapped class with tenant rows, in the order of their tables' names."""
    owned: list[Any] = [mapper.class_ for mapper in Base.registry.mappers if issubclass(mapper.class_, TenantOwned)]
    return sorted(owned, key=lambda each: str(each.__tablename__))


def statements_on(owned: type[Any]) -> dict[str, Select[Any] | Update | Delete]:
    """Return statements of every kind on a class."""
    other = aliased(owned)
    return {
        "entity": select(owned),
        "column": select(owned.tenant_id),
        "aliased": select(other.tenant_id),
        "count": select(func.count()).select_from(owned),
        "where": select(owned.tenant_id).where(owned.tenant_id.is_not(None) | literal(True)),
        "update": update(owned).values(tenant_id=owned.tenant_id),
        "delete": delete(owned),
    }


@pytest.mark.parametrize("owned", tenant_owned_classes(), ids=lambda owned: owned.__tablename__)
async def test_every_statement_carries_the_tenant(database: Database, owned: type[Any]) -> None:
    """SELECT, UPDATE and DELETE on a tenant's class go out with `tenant_id = :tenant`."""
    for kind, statement in statements_on(owned).items():
        with captured_sql(database) as sent:
            # Refused for want of a privilege or not: the text that is sent is what counts.
            try:
                async with database.tenant_session(TenantId(uuid4())) as session:
                    await session.execute(statement)
            except DBAPIError:
                pass
        assert len(sent) == 1, kind
        for text_sent in (sent[0], compile_statement(statement).sql):
            condition = text_sent.partition("WHERE")[2]
            assert re.search(rf"\b{owned.__tablename__}(_1)?\.tenant_id = \$\d+::UUID", condition), (kind, text_sent)


async def test_the_predicate_alone_separates_tenants(postgres: EmbeddedPostgres, own_settings: Settings) -> None:
    """Even as a superuser, to whom no policy applies, a tenant session reads and changes its own rows only."""
    tenant_a, tenant_b = await new_tenant(own_settings), await new_tenant(own_settings)
    rows_a, rows_b = await add_rows(own_settings, tenant_a.id), await add_rows(own_settings, tenant_b.id)
    database = Database(
        own_settings.database.model_copy(update={"database_url": superuser_url(postgres, own_settings)})
    )
    document, chunk = aliased(KnowledgeBaseDocument), aliased(KBChunk)
    subquery = select(KBChunk.id).where(KBChunk.document_id == KnowledgeBaseDocument.id)
    in_cte = select(KBChunk.tenant_id, KBChunk.id).cte("chosen")
    reads: dict[str, tuple[Select[Any], list[Any]]] = {
        "events": (select(AuditEvent.id), [rows_a.event_id]),
        "aliased": (select(document.id), [rows_a.document_id]),
        "count": (select(func.count()).select_from(KBChunk), [1]),
        "join": (select(chunk.id).join(document, document.id == chunk.document_id), [rows_a.chunk_id]),
        "by foreign id": (select(KBChunk.id).where(KBChunk.id == rows_b.chunk_id), []),
        "exists": (select(KnowledgeBaseDocument.id).where(exists(subquery)), [rows_a.document_id]),
        "subquery": (select(select(KBChunk.id).subquery().c.id), [rows_a.chunk_id]),
        "cte": (select(in_cte.c.id), [rows_a.chunk_id]),
        "scalar subquery": (select(select(func.count(KBChunk.id)).scalar_subquery()), [1]),
        "in": (select(AuditEvent.id).where(AuditEvent.id.in_([rows_a.event_id, rows_b.event_id])), [rows_a.event_id]),
        "union": (select(KBChunk.id).union_all(select(KBChunk.id)), [rows_a.chunk_id] * 2),  # type: ignore[dict-item]
    }
    answers = {}
    async with database.tenant_session(tenant_a.id) as session:
        await session.execute(text("SELECT 1"))
        for name, (query, _) in reads.items():
            answers[name] = (await session.scalars(query)).all()
            if name != "in":
                compiled = [row[0] for row in await session.fetch(compile_statement(query), {})]
                assert compiled == answers[name], name
        by_key = await session.orm.get(KBChunk, (tenant_b.id, rows_b.chunk_id))
    assert answers == {name: expected for name, (_, expected) in reads.items()}
    assert by_key is None
    writes: list[Executable] = [
        update(KnowledgeBaseDocument).values(title="changed by A"),
        delete(KBChunk),
        delete(KBChunk).where(KBChunk.id == rows_b.chunk_id),
    ]
    async with database.tenant_session(tenant_a.id) as session:
        counts = [(await session.execute(write)).rowcount for write in writes]  # type: ignore[attr-defined]
    assert counts == [1, 1, 0]
    async with connect(own_settings.database.database_url, tenant_b.id) as app:
        assert await app.fetchval("SELECT title FROM kb_documents") == "Title"
        assert await app.fetchval("SELECT id FROM kb_chunks") == rows_b.chunk_id
    await database.close()
