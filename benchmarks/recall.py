"""`make bench-recall`: vector search among 1,000,000 chunks beside brute force, for tenants of all sizes.

Right means: as many hits as were asked for or as there are, and the same ones that comparing every vector gives. Times
are those of the searches' own statements, from the first to the last, on a database at rest. Into RESULTS.md.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector import Vector as StoredVector
from pydantic import SecretStr

from app.database.database import Database
from app.database.tenant_owned import TenantId
from app.json_predicates import JsonPredicate
from app.kb.candidates import SearchFilter
from app.kb.search import SearchRequest, SearchResult, search_chunks
from app.settings import DatabaseSettings, Limits
from benchmarks.database import BenchDatabase, Size, bench_database
from benchmarks.options import make_parser
from benchmarks.report import RESULTS, conditions, table, write_section

_SIZES = (200_000, 50_000, 20_000, 5_000, 500, 50)
_SIZE = Size(1_000, 1_000_000, 1_000, _SIZES)
_LIMITS = Limits()
_COUNTS = (1, 10, 41, 100)
# Distances of the database and of this program differ by less.
_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class Corpus:
    """A tenant's vectors, of which document each is, and each document's metadata."""

    tenant_id: TenantId
    ids: NDArray[np.object_]
    documents: NDArray[np.object_]
    vectors: NDArray[np.float32]
    metadata: dict[UUID, dict[str, str]]


def main() -> None:
    """Search and compare."""
    parser = make_parser(__doc__)
    parser.add_argument("--queries", type=int, default=100, help="searches a tenant")
    options = parser.parse_args()
    with bench_database(options.data_dir.resolve(), _SIZE) as database:
        rows = asyncio.run(_measure(database, options.queries))
        versions = database.versions()
    how = (
        f"{_SIZE.chunks:,} chunks of {_SIZE.tenants:,} tenants in clusters. {options.queries} searches a row, half of"
        " them near a passage of the tenant and half near one of others, compared with brute force over all vectors of"
        f" the tenant. Each search gave exactly as many hits as there are for limits of {', '.join(map(str, _COUNTS))}."
    )
    header = ("chunks of the tenant", "searched", "strategy", "recall@10", "lowest of a search", "p50 ms", "p95 ms")
    write_section(RESULTS, "Vector search among 1,000,000 chunks", conditions(versions, how), table(header, rows))


async def _measure(bench: BenchDatabase, queries: int) -> list[Sequence[str]]:
    settings = DatabaseSettings(database_url=SecretStr(bench.url), database_pool_size=1)
    database = Database(settings)
    owner = await asyncpg.connect(bench.owner_url)
    await owner.set_type_codec(
        "vector", schema="public", encoder=StoredVector.to_binary, decoder=StoredVector.from_binary, format="binary"
    )
    random = np.random.default_rng(5)
    rows: list[Sequence[str]] = []
    try:
        foreign = await _vectors(
            owner, "SELECT embedding FROM kb_chunks TABLESAMPLE SYSTEM (1) ORDER BY random() LIMIT 5000"
        )
        for tenant_id in await _tenants(owner):
            corpus = await _corpus(owner, tenant_id)
            for name, where in _filters(corpus):
                rows.append(await _row(database, corpus, name, where, _queries(corpus, foreign, queries, random)))
                print(" | ".join(rows[-1]), flush=True)
    finally:
        await owner.close()
        await database.close()
    return rows


async def _tenants(owner: asyncpg.Connection) -> list[UUID]:
    """Return the tenants whose size was chosen, and two of the many others."""
    rows = await owner.fetch("SELECT tenant_id, count(*) FROM kb_chunks GROUP BY 1 ORDER BY 2 DESC")
    chosen = [row["tenant_id"] for row in rows if row["count"] in _SIZES]
    return [*chosen, *[row["tenant_id"] for row in rows if row["count"] not in _SIZES][:2]]


async def _vectors(owner: asyncpg.Connection, query: str) -> NDArray[np.float32]:
    return np.stack([row[0].to_numpy() for row in await owner.fetch(query)]).astype(np.float32)


async def _corpus(owner: asyncpg.Connection, tenant_id: UUID) -> Corpus:
    rows = await owner.fetch("SELECT id, document_id, embedding FROM kb_chunks WHERE tenant_id = $1", tenant_id)
    async with owner.transaction():
        await owner.execute("SELECT set_tenant($1)", tenant_id)
        documents = await owner.fetch("SELECT id, metadata ->> 'topic' AS topic, metadata ->> 'region' AS region"
                                      " FROM kb_documents WHERE tenant_id = $1", tenant_id)  # fmt: skip
    return Corpus(
        TenantId(tenant_id),
        np.array([row["id"] for row in rows]),
        np.array([row["document_id"] for row in rows]),
        np.stack([row["embedding"].to_numpy() for row in rows]).astype(np.float32),
        {row["id"]: {"topic": row["topic"], "region": row["region"]} for row in documents},
    )


def _filters(corpus: Corpus) -> list[tuple[str, SearchFilter]]:
    filters = [("everything", SearchFilter())]
    if len(corpus.ids) >= min(_SIZES[:3]):
        filters += [
            ("1 document", SearchFilter(document_ids=[next(iter(corpus.metadata))])),
            ("metadata that 1 % have", _having("topic", "topic-7")),
            ("metadata that a third have", _having("region", "eu")),
        ]
    return filters


def _having(key: str, value: str) -> SearchFilter:
    return SearchFilter(metadata=[JsonPredicate(path=(key,), eq=value)])


def _queries(
    corpus: Corpus, foreign: NDArray[np.float32], count: int, random: np.random.Generator
) -> NDArray[np.float32]:
    own = corpus.vectors[random.integers(0, len(corpus.vectors), count - count // 2)]
    others = foreign[random.integers(0, len(foreign), count // 2)]
    near = np.concatenate([own, others])
    # As far from it as two passages of a cluster are from each other.
    near = near + random.normal(scale=0.35 / near.shape[1] ** 0.5, size=near.shape)
    unit: NDArray[np.float32] = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
    return unit


async def _row(
    database: Database, corpus: Corpus, name: str, where: SearchFilter, queries: NDArray[np.float32]
) -> Sequence[str]:
    mask = np.array([_matches(corpus, document, where) for document in corpus.documents])
    ids, vectors = corpus.ids[mask], corpus.vectors[mask]
    recalls, times, strategies = [], [], set()
    for number, query in enumerate(queries):
        result = await _search(database, corpus, query, 10, where)
        if number < len(queries) // 10:
            # The first ones read what is not in memory yet.
            result = await _search(database, corpus, query, 10, where)
        times.append(result.took_ms)
        strategies.add(result.strategy.value)
        recalls.append(_recall(result, ids, vectors @ query))
    for query in queries[:10]:
        for limit in _COUNTS:
            found = len((await _search(database, corpus, query, limit, where)).hits)
            if found != min(limit, len(ids)):
                raise RuntimeError(f"{found} hits of {min(limit, len(ids))} for {name}, limit {limit}")
    p50, p95 = np.percentile(times, [50, 95])
    return (
        f"{len(corpus.ids):,}", f"{name} ({len(ids):,})", ", ".join(sorted(strategies)), f"**{np.mean(recalls):.3f}**",
        f"{min(recalls):.1f}", f"{p50:.1f}", f"{p95:.1f}",
    )  # fmt: skip


async def _search(
    database: Database, corpus: Corpus, query: NDArray[np.float32], limit: int, where: SearchFilter
) -> SearchResult:
    request = SearchRequest(limit=limit, vector=query, where=where)
    async with database.tenant_session(corpus.tenant_id) as session:
        return await search_chunks(session, request, _LIMITS)


def _recall(result: SearchResult, ids: NDArray[np.object_], similarities: NDArray[np.float32]) -> float:
    """Return which part of the nearest was found; one as near as the last of them counts as one of them."""
    wanted = min(10, len(ids))
    last = np.partition(similarities, len(ids) - wanted)[len(ids) - wanted]
    known = dict(zip(ids, similarities, strict=True))
    return float(sum(known[hit.passage.id] >= last - _ROUNDING for hit in result.hits)) / wanted


def _matches(corpus: Corpus, document: UUID, where: SearchFilter) -> bool:
    if where.document_ids is not None and document not in where.document_ids:
        return False
    return all(corpus.metadata[document][predicate.path[0]] == predicate.eq for predicate in where.metadata or ())


if __name__ == "__main__":
    main()
