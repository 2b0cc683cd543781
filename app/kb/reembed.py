"""Changing the embedding model while searches and ingests go on.

The passages are copied into a table of the same shape with vectors of the new profile, some hundred at a time, a tenant
after the other. What is ingested, changed or deleted meanwhile is caught up with in ever shorter rounds. The last one
runs while ingests wait (a second or two; searches go on), and ends with the two tables changing their names. The old
profile's table stays, so that going back means catching up and changing names again, until it is dropped.

Everything is done as the owner of the tables. It reads all tenants' passages and writes each tenant's as that tenant,
so that row level security is as much in force as for the server.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import orjson

from app.database.tenant_owned import TenantId
from app.embeddings import EmbeddingProvider, Vector
from app.errors import InvalidInput, Unavailable
from app.kb.profiles import Profile
from app.settings import EmbeddingsProvider, EmbeddingsSettings

Advance = Callable[[int, int], None]

# Passages that are read, embedded and written at once.
_BATCH = 256
# Ingests wait while so many passages at most are embedded.
_MOST_LOCKED = 50
_ROUNDS = 20
_SWITCHES = 30
# "konstrre", so that two of these commands do not work against each other.
_LOCK = 0x6B6F6E7374727265

_PROFILES = "SELECT id, provider, model, dimensions, is_active FROM kb_profiles ORDER BY id"


@dataclass(frozen=True, slots=True)
class StoredProfile:
    """A profile of the database, whether it is active, and how many passages have its vectors."""

    profile: Profile
    is_active: bool
    passages: int


async def list_profiles(connection: asyncpg.Connection) -> list[StoredProfile]:
    """Return all profiles that there are vectors of."""
    found = []
    for row in await connection.fetch(_PROFILES):
        profile = Profile(row["id"], EmbeddingsProvider(row["provider"]), row["model"], row["dimensions"])
        table = "kb_chunks" if row["is_active"] else _table_of(profile)
        passages = 0
        if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
            passages = await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - a name of our own
        found.append(StoredProfile(profile, row["is_active"], passages))
    return found


async def ensure_profile(connection: asyncpg.Connection, wanted: EmbeddingsSettings) -> Profile:
    """Return the profile of the settings; make it if there is none yet."""
    provider, model, dimensions = wanted.profile
    number = await connection.fetchval(
        "WITH made AS (INSERT INTO kb_profiles (id, provider, model, dimensions)"
        " SELECT max(id) + 1, $1, $2, $3 FROM kb_profiles ON CONFLICT DO NOTHING RETURNING id)"
        " SELECT id FROM made UNION ALL"
        " SELECT id FROM kb_profiles WHERE (provider, model, dimensions) = ($1, $2, $3)",
        provider, model, dimensions,
    )  # fmt: skip
    return Profile(number, EmbeddingsProvider(provider), model, dimensions)


async def drop_profile(connection: asyncpg.Connection, number: int) -> None:
    """Remove a profile with its vectors; raise `InvalidInput` for the active one and for none."""
    for stored in await list_profiles(connection):
        if stored.profile.id == number:
            if stored.is_active:
                raise InvalidInput(("profile",), f"profile {number} is the active one; activate another one first")
            async with connection.transaction():
                await connection.execute(f"DROP TABLE IF EXISTS {_table_of(stored.profile)}")
                await connection.execute("DELETE FROM kb_profiles WHERE id = $1", number)
            return
    raise InvalidInput(("profile",), f"there is no profile {number}; `konstruct kb profiles` lists them")


async def reembed(
    connection: asyncpg.Connection, profile: Profile, provider: EmbeddingProvider, advance: Advance
) -> None:
    """Give every passage a vector of the profile, then activate it; `advance(done, of)` is called on the way.

    What was done by a run that broke off is kept, and gone on with. Raises `InvalidInput` when there is nothing to do
    or it can't be done, `Unavailable` when the tables can't be had, and what the provider raises.
    """
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
        raise Unavailable("another `konstruct kb reembed` is at work on this database")
    try:
        await _reembed(connection, profile, provider, advance)
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


async def _reembed(
    connection: asyncpg.Connection, profile: Profile, provider: EmbeddingProvider, advance: Advance
) -> None:
    if profile.provider is EmbeddingsProvider.NONE:
        raise InvalidInput(("embeddings",), "without a provider there is nothing to embed with")
    active = await connection.fetchval("SELECT id FROM kb_profiles WHERE is_active")
    if active == profile.id:
        raise InvalidInput(("embeddings",), f"{profile} is active already")
    work = _Reembedding(connection, profile, provider, active)
    await work.create()
    for _ in range(_ROUNDS):
        missing = await work.fill(advance)
        await work.index()
        if missing <= _MOST_LOCKED and await work.activate():
            return
    raise Unavailable("passages change faster than they can be embedded; run the command again at a quieter time")


def _table_of(profile: Profile) -> str:
    return f"kb_profile_{profile.id}_chunks"


@dataclass(frozen=True, slots=True)
class _Reembedding:
    connection: asyncpg.Connection
    profile: Profile
    provider: EmbeddingProvider
    active: int

    @property
    def table(self) -> str:
        return _table_of(self.profile)

    async def create(self) -> None:
        if not await self._exists(self.table):
            await self.connection.execute("SELECT create_kb_chunks($1, $2)", self.table, self.profile.dimensions)

    async def index(self) -> None:
        """Index what is there. At once, that takes a fraction of the time that row after row does."""
        if not await self._exists(f"{self.table}_embedding_idx"):
            async with self.connection.transaction():
                await self.connection.execute("SELECT index_kb_chunks($1, $2)", self.table, self.profile.dimensions)
            await self.connection.execute(f"ANALYZE {self.table}")

    async def fill(self, advance: Advance) -> int:
        """Embed the passages that have no vector yet; return how many there were."""
        missing = await self._missing()
        total, done = sum(missing.values()), 0
        advance(0, total)
        for tenant_id in missing:
            last = UUID(int=0)
            while batch := await self._batch(tenant_id, last):
                await self._embed(tenant_id, batch)
                last = batch[-1]["id"]
                done += len(batch)
                advance(min(done, total), total)
        return total

    async def activate(self) -> bool:
        """Catch up with the last changes and let the tables change names; `False` when that is too much at once."""
        for _ in range(_SWITCHES):
            try:
                async with self.connection.transaction():
                    return await self._activate()
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
                # Searches or ingests that take long. They are let pass, and nobody queues behind this for longer.
                continue
        raise Unavailable("the tables are busy; run the command again, what is embedded is kept")

    async def _activate(self) -> bool:
        connection = self.connection
        await connection.execute("SET LOCAL lock_timeout = '2s'")
        await connection.execute("LOCK TABLE kb_documents IN SHARE MODE")
        missing = await self._missing()
        if sum(missing.values()) > _MOST_LOCKED:
            return False
        for tenant_id in missing:
            await self._embed(tenant_id, await self._batch(tenant_id, UUID(int=0)))
        await self._delete_stale()
        await connection.execute("SELECT rename_kb_chunks('kb_chunks', $1)", f"kb_profile_{self.active}_chunks")
        await connection.execute("SELECT rename_kb_chunks($1, 'kb_chunks')", self.table)
        await connection.execute("UPDATE kb_profiles SET is_active = false WHERE is_active")
        await connection.execute("UPDATE kb_profiles SET is_active = true WHERE id = $1", self.profile.id)
        return True

    async def _missing(self) -> dict[TenantId, int]:
        rows = await self.connection.fetch(
            f"SELECT c.tenant_id, count(*) AS missing FROM kb_chunks c WHERE {self._has_none} GROUP BY 1 ORDER BY 1"  # noqa: S608
        )
        return {TenantId(row["tenant_id"]): row["missing"] for row in rows}

    async def _batch(self, tenant_id: TenantId, after: UUID) -> Sequence[asyncpg.Record]:
        return await self.connection.fetch(
            f"SELECT c.id, c.content FROM kb_chunks c WHERE c.tenant_id = $1 AND c.id > $2 AND {self._has_none}"  # noqa: S608
            " ORDER BY c.id LIMIT $3",
            tenant_id, after, _BATCH,
        )  # fmt: skip

    async def _embed(self, tenant_id: TenantId, batch: Sequence[asyncpg.Record]) -> None:
        vectors = await self.provider.embed([row["content"] for row in batch])
        ids = [row["id"] for row in batch]
        while True:
            try:
                async with self.connection.transaction():
                    await self._write(tenant_id, ids, vectors)
                break
            except asyncpg.ForeignKeyViolationError:
                # A document was deleted between being read and being written; now it is gone for both.
                continue

    async def _write(self, tenant_id: TenantId, ids: Sequence[UUID], vectors: Sequence[Vector]) -> None:
        connection, table = self.connection, self.table
        await connection.execute("SELECT set_tenant($1)", tenant_id)
        # Of a version of the documents that is no more.
        await connection.execute(
            f"DELETE FROM {table} s WHERE s.tenant_id = $1 AND {self._is_stale} AND s.document_id IN"  # noqa: S608
            " (SELECT c.document_id FROM kb_chunks c WHERE c.tenant_id = $1 AND c.id = ANY ($2))",
            tenant_id, ids,
        )  # fmt: skip
        await connection.execute(
            f"INSERT INTO {table} (tenant_id, id, document_id, chunk_index, content, metadata, embedding)"  # noqa: S608
            " SELECT c.tenant_id, c.id, c.document_id, c.chunk_index, c.content, c.metadata, CAST(v.vector AS vector)"
            " FROM unnest($2::uuid[], $3::text[]) AS v (id, vector)"
            " JOIN kb_chunks c ON c.tenant_id = $1 AND c.id = v.id ON CONFLICT (tenant_id, id) DO NOTHING",
            tenant_id, ids,
            [orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode() for vector in vectors],
        )  # fmt: skip

    async def _delete_stale(self) -> None:
        stale = await self.connection.fetch(f"SELECT DISTINCT s.tenant_id FROM {self.table} s WHERE {self._is_stale}")  # noqa: S608
        for row in stale:
            await self.connection.execute("SELECT set_tenant($1)", row["tenant_id"])
            await self.connection.execute(
                f"DELETE FROM {self.table} s WHERE s.tenant_id = $1 AND {self._is_stale}",  # noqa: S608
                row["tenant_id"],
            )

    @property
    def _has_none(self) -> str:
        return f"NOT EXISTS (SELECT FROM {self.table} s WHERE s.tenant_id = c.tenant_id AND s.id = c.id)"

    @property
    def _is_stale(self) -> str:
        return "NOT EXISTS (SELECT FROM kb_chunks c WHERE c.tenant_id = s.tenant_id AND c.id = s.id)"

    async def _exists(self, name: str) -> bool:
        found: bool = await self.connection.fetchval("SELECT to_regclass($1) IS NOT NULL", name)
        return found
