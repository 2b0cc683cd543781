"""Whether the database may be used by this server: a weak role, the right schema, a recent pgvector.

The same checks stop a start (`check_before_start`) and answer /readyz (`find_problems`).
"""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.database import Database
from app.database.migrate import head_revision
from app.settings import EmbeddingsSettings

# The first version whose iterative index scans and vacuum of HNSW are free of the known faults.
MINIMUM_PGVECTOR = (0, 8, 4)


_MIGRATIONS = "migrations"

_UNSAFE_ROLE = """
SELECT current_user::text AS role,
    EXISTS (SELECT FROM pg_roles m WHERE m.rolsuper AND pg_has_role(r.oid, m.oid, 'MEMBER')) AS is_superuser,
    EXISTS (SELECT FROM pg_roles m WHERE m.rolbypassrls AND pg_has_role(r.oid, m.oid, 'MEMBER')) AS bypasses_rls,
    (SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class c
     WHERE c.relname IN ('tenants', 'api_keys', 'audit_events', 'audit_idempotency_keys', 'audit_log_cursor',
                         'audit_log_leaves', 'audit_log_states', 'kb_documents', 'kb_chunks', 'kb_profiles')
       AND c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace
       AND pg_has_role(r.oid, c.relowner, 'MEMBER')) AS owned_tables
FROM pg_roles r WHERE r.rolname = current_user
"""

_REVISION_READABLE = "SELECT COALESCE(has_table_privilege(to_regclass('alembic_version')::oid, 'SELECT'), false)"

_MUTABLE_TRAIL = """
SELECT has_table_privilege('audit_events', 'UPDATE, DELETE, TRUNCATE')
    OR has_any_column_privilege('audit_events', 'UPDATE')
"""


# The trail and each of its partitions has the two triggers of migration 003, enabled for every kind of session.
_UNGUARDED_TABLES = """
SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class c
WHERE c.oid IN (SELECT relid FROM pg_partition_tree('audit_events'))
  AND (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled = 'A'
       AND t.tgname IN ('refuse_change', 'refuse_row_change')) < 2
"""

# `tenants` is not forced: foreign keys to it are checked as its owner. Its own column is the tenant's id.
_UNLOCKED_TABLES = """
SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
  AND (c.relname = 'tenants' OR EXISTS (
      SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped))
  AND NOT (c.relrowsecurity AND (c.relforcerowsecurity OR c.relname = 'tenants')
           AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid))
"""

_ACTIVE_PROFILE = "SELECT provider, model, dimensions FROM kb_profiles WHERE is_active"

# The runtime role may not read partitions; their size it may know.
_DEFAULT_PARTITION_USED = "SELECT COALESCE(pg_relation_size(to_regclass('audit_events_default')) > 0, false)"


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why the server must not (`is_fatal`) or should not run as it is."""

    check: str
    reason: str
    is_fatal: bool = True


class UnsafeDatabase(Exception):
    """The server refuses to start on this database; the message says why and what to do."""


async def check_before_start(database: Database) -> None:
    """Raise `UnsafeDatabase` with the first reason not to start."""
    try:
        async with database.connection() as connection:
            problems = await find_problems(connection)
    except (SQLAlchemyError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        raise UnsafeDatabase(f"the database can't be reached: {cause}") from error
    for problem in problems:
        # A newer schema is no reason to stop, but one not to start.
        if problem.is_fatal or problem.check == _MIGRATIONS:
            raise UnsafeDatabase(problem.reason)


async def find_problems(connection: AsyncConnection, embeddings: EmbeddingsSettings | None = None) -> list[Problem]:
    """Return all that is wrong with the database for this server, the worst first.

    With the embedding settings, also whether they are other than what the database goes by.
    """
    problems = await _role_problems(connection)
    revision_problem = await _revision_problem(connection)
    if revision_problem is not None:
        problems.append(revision_problem)
        if revision_problem.is_fatal:
            return problems
    if (await connection.execute(text(_MUTABLE_TRAIL))).scalar_one():
        reason = (
            "the runtime role may change audit_events, so events would not be immutable;"
            " revoke its UPDATE, DELETE and TRUNCATE"
        )
        problems.append(Problem("role", reason))
    unguarded = (await connection.execute(text(_UNGUARDED_TABLES))).scalar_one()
    if unguarded:
        reason = (
            f"the triggers that refuse changes of events are missing or off on {unguarded}; restore them as the owner"
        )
        problems.append(Problem("immutability", reason))
    problems.extend(await _protection_problems(connection))
    problems.extend(await _vector_problems(connection))
    if embeddings is not None:
        problems.extend(await _profile_problems(connection, embeddings))
    if (await connection.execute(text(_DEFAULT_PARTITION_USED))).scalar_one():
        reason = "events land in the default partition; run `konstruct maintain` to make partitions ahead"
        problems.append(Problem("default_partition", reason, is_fatal=False))
    return problems


async def _role_problems(connection: AsyncConnection) -> list[Problem]:
    row = (await connection.execute(text(_UNSAFE_ROLE))).one()
    remedy = "connect as konstruct_app, which `konstruct migrate` creates"
    if row.is_superuser:
        reason = f"the database role {row.role} is a superuser, whom row level security does not bind; {remedy}"
    elif row.bypasses_rls:
        reason = f"the database role {row.role} has BYPASSRLS, so tenants would not be isolated; {remedy}"
    elif row.owned_tables:
        reason = (
            f"the database role {row.role} owns tables ({row.owned_tables}) and could lift their protection; {remedy}"
        )
    else:
        return []
    return [Problem("role", reason)]


async def _revision_problem(connection: AsyncConnection) -> Problem | None:
    head = head_revision()
    found = None
    if (await connection.execute(text(_REVISION_READABLE))).scalar_one():
        found = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar_one_or_none()
    if found == head:
        return None
    is_newer = found is not None and found > head
    remedy = "upgrade this server" if is_newer else "run `konstruct migrate`"
    reason = f"the database is at revision {found or 'none'}, this server needs {head}; {remedy}"
    # Servers that run go on over an upgrade: each revision is made so that the one before it is not affected.
    return Problem(_MIGRATIONS, reason, is_fatal=not is_newer)


async def _protection_problems(connection: AsyncConnection) -> list[Problem]:
    problems = []
    unlocked = (await connection.execute(text(_UNLOCKED_TABLES))).scalar_one()
    if unlocked:
        reason = f"row level security is off, not forced or without a policy on {unlocked}; restore it as the owner"
        problems.append(Problem("row_level_security", reason))
    if (await connection.execute(text("SHOW synchronous_commit"))).scalar_one() == "off":
        reason = (
            "synchronous_commit is off for this role, so acknowledged events could be lost in a crash;"
            " ALTER ROLE konstruct_app SET synchronous_commit = on"
        )
        problems.append(Problem("durability", reason))
    if (await connection.execute(text("SHOW fsync"))).scalar_one() == "off":
        reason = "fsync is off on the database server, so a crash of its machine could lose acknowledged events"
        problems.append(Problem("fsync", reason, is_fatal=False))
    return problems


async def _vector_problems(connection: AsyncConnection) -> list[Problem]:
    version = (
        await connection.execute(text("SELECT extversion FROM pg_extension WHERE extname = 'vector'"))
    ).scalar_one_or_none()
    minimum = ".".join(map(str, MINIMUM_PGVECTOR))
    if version is None or tuple(int(part) for part in version.split(".")[:3]) < MINIMUM_PGVECTOR:
        return [Problem("pgvector", f"pgvector {version or 'is missing'}; {minimum} or later is needed")]
    return []


async def _profile_problems(connection: AsyncConnection, embeddings: EmbeddingsSettings) -> list[Problem]:
    active = (await connection.execute(text(_ACTIVE_PROFILE))).one()
    if tuple(active) == embeddings.profile:
        return []
    wanted, used = (" ".join(map(str, filter(None, profile))) for profile in (embeddings.profile, active))
    reason = (
        f"the settings say {wanted} dimensions for embeddings, the knowledge base is made by {used} dimensions and goes"
        " on with it; run `konstruct kb reembed` to change it, or set KONSTRUCT_EMBEDDINGS as it was"
    )
    return [Problem("embeddings", reason, is_fatal=False)]
