"""The database under measurement: an embedded PostgreSQL for each size, filled once and kept.

Events can't be deleted, so a run that inserts some measures a copy, which the next run replaces.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from pydantic import SecretStr

from app.database.embedded import DATABASE, OWNER_ROLE, EmbeddedPostgres
from app.database.migrate import migrate_to_head
from app.settings import DatabaseSettings, EmbeddingsProvider, EmbeddingsSettings, LocalModel, Settings

# What an operator would give a server for a million events; durability stays at PostgreSQL's defaults.
_SETTINGS = "shared_buffers = 1GB\nmax_wal_size = 8GB\n"
_COPY = "konstruct_measured"
_FUNCTIONS = Path(__file__).parent / "peers" / "functions.sql"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Size:
    """How much `konstruct bench-data` loads."""

    events: int
    chunks: int
    tenants: int = 50
    # Of the first tenants; the others share the rest.
    chunk_sizes: tuple[int, ...] = ()

    @property
    def folder(self) -> str:
        """The name of the folder that a database of this size is kept in."""
        return "-".join(map(str, (self.events, self.chunks, self.tenants, *self.chunk_sizes)))

    def __str__(self) -> str:
        return f"{self.events:,} events and {self.chunks:,} chunks over {self.tenants} tenants"


@dataclass(frozen=True, slots=True)
class BenchDatabase:
    """A running, filled database; the tenant is its largest, with a fifth of the data."""

    postgres: EmbeddedPostgres
    folder: Path
    tenant_id: str
    api_key: str
    model: LocalModel
    name: str = _COPY

    @property
    def url(self) -> str:
        """The URL of the weak role, which every server uses."""
        return _of_database(self.postgres.runtime_url, self.name)

    @property
    def owner_url(self) -> str:
        """The URL of the role that owns the tables."""
        return _of_database(self.postgres.owner_url, self.name)

    @property
    def sealer_url(self) -> str:
        """The URL of the role that seals the log."""
        return _of_database(self.postgres.sealer_url, self.name)

    @property
    def postmaster_pid(self) -> int:
        """The process whose children serve the connections."""
        return int((self.folder / "postgres" / "postmaster.pid").read_text().splitlines()[0])

    def versions(self) -> dict[str, str]:
        """Return the versions of PostgreSQL and pgvector; raise when commits are not durable."""

        async def look(connection: asyncpg.Connection) -> dict[str, str]:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                if await connection.fetchval("SELECT current_setting($1)", setting) != "on":
                    raise RuntimeError(f"{setting} is not on: an acknowledged insert would not be durable")
            return {
                "PostgreSQL": await connection.fetchval("SELECT current_setting('server_version')"),
                "pgvector": await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'"),
            }

        # As the role of the servers, which may have settings of its own.
        return asyncio.run(_connected(self.url, look))

    def count_events(self) -> int:
        """Return the number of all tenants' events."""

        async def count(connection: asyncpg.Connection) -> int:
            return int(await connection.fetchval("SELECT count(*) FROM audit_events"))

        return self._as_superuser(count)

    def has_event(self, event_id: str) -> bool:
        """Tell whether another connection sees the tenant's event, as it does after the commit."""

        async def look(connection: asyncpg.Connection) -> bool:
            query = "SELECT EXISTS (SELECT FROM audit_events WHERE tenant_id = $1 AND id = $2)"
            return bool(await connection.fetchval(query, UUID(self.tenant_id), UUID(event_id)))

        return self._as_superuser(look)

    def sample_events(self, count: int) -> list[tuple[str, str]]:
        """Return ids and ticket numbers of some of the tenant's loaded events, from all months."""

        async def look(connection: asyncpg.Connection) -> list[tuple[str, str]]:
            query = """
            SELECT id::text, metadata ->> 'ticket' FROM audit_events
            WHERE tenant_id = $1 AND metadata ? 'ticket' ORDER BY md5(id::text) LIMIT $2
            """
            return [(row[0], row[1]) for row in await connection.fetch(query, UUID(self.tenant_id), count)]

        return self._as_superuser(look)

    def go_by(self, provider: str, model: str) -> None:
        """Let the servers take another model of the same length for the one that the vectors are by."""

        async def change(connection: asyncpg.Connection) -> None:
            await connection.execute("UPDATE kb_profiles SET provider = $1, model = $2", provider, model)

        self._as_superuser(change)

    def _as_superuser(self, work: Callable[[asyncpg.Connection], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run(_connected(_of_database(self.postgres.superuser_url, self.name), work))


@contextmanager
def bench_database(
    data_dir: Path, size: Size, model: LocalModel = LocalModel.MINILM, *, writing: bool = True
) -> Iterator[BenchDatabase]:
    """Start the server with this much data, loading it when it is new, and make a copy; stop when the block ends.

    Its index is as wide as the vectors of `model`. Who does no `writing` is given no copy, but the data itself.
    """
    folder = data_dir / f"{size.folder}-{model}"
    note = folder / "largest-tenant.json"
    postgres = EmbeddedPostgres(folder, settings=_SETTINGS)
    if not note.exists():
        # Nothing, or what an interrupted load left behind.
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
    postgres.start()
    try:
        asyncio.run(_migrate(postgres, model))
        if not note.exists():
            note.write_text(json.dumps(_load(postgres, size, model)))
        # What autovacuum does in the minutes after a load would disturb the measurement.
        asyncio.run(_connected(postgres.superuser_url.get_secret_value(), _vacuum))
        if writing:
            asyncio.run(_copy(postgres))
        largest = json.loads(note.read_text())
        yield BenchDatabase(
            postgres, folder, largest["tenant_id"], largest["api_key"], model, _COPY if writing else DATABASE
        )
    finally:
        postgres.stop()


def _load(postgres: EmbeddedPostgres, size: Size, model: LocalModel) -> dict[str, str]:
    environment = {
        "KONSTRUCT_DATABASE_URL": postgres.runtime_url.get_secret_value(),
        "KONSTRUCT_OWNER_DATABASE_URL": postgres.owner_url.get_secret_value(),
        "KONSTRUCT_EMBEDDINGS": EmbeddingsProvider.LOCAL,
        "KONSTRUCT_EMBEDDINGS_MODEL": model,
    }
    command = [
        sys.executable, "-m", "app.cli", "bench-data", "--json",
        "--events", str(size.events), "--chunks", str(size.chunks), "--tenants", str(size.tenants),
        "--chunk-sizes", ",".join(map(str, size.chunk_sizes)),
    ]  # fmt: skip
    print(f"Loading {size} ...", flush=True)
    done = subprocess.run(  # noqa: S603 - our own command
        command, env=os.environ | environment, stdout=subprocess.PIPE, check=True
    )
    largest: dict[str, str] = json.loads(done.stdout)[0]
    return largest


async def _migrate(postgres: EmbeddedPostgres, model: LocalModel) -> None:
    await postgres.ensure_roles_and_database()
    urls = DatabaseSettings(database_url=postgres.runtime_url, owner_database_url=postgres.owner_url)
    embeddings = EmbeddingsSettings(provider=EmbeddingsProvider.LOCAL, model=model)
    await migrate_to_head(Settings(database=urls, embeddings=embeddings))


async def _copy(postgres: EmbeddedPostgres) -> None:
    async def copy(connection: asyncpg.Connection) -> None:
        await connection.execute(f"DROP DATABASE IF EXISTS {_COPY} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {_COPY} TEMPLATE {DATABASE} OWNER {OWNER_ROLE} STRATEGY file_copy")

    await _connected(_of_database(postgres.superuser_url, "postgres"), copy)
    await _connected(_of_database(postgres.owner_url, _COPY), _add_functions)


def _of_database(url: SecretStr, name: str) -> str:
    return url.get_secret_value().removesuffix(f"/{DATABASE}") + f"/{name}"


async def _add_functions(connection: asyncpg.Connection) -> None:
    await connection.execute(_FUNCTIONS.read_text())


async def _vacuum(connection: asyncpg.Connection) -> None:
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")


async def _connected(url: str, work: Callable[[asyncpg.Connection], Coroutine[Any, Any, T]]) -> T:
    connection = await asyncpg.connect(url)
    try:
        return await work(connection)
    finally:
        await connection.close()
