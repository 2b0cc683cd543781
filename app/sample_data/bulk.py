"""Realistic data at scale, for benchmarks: many tenants of unequal size, months of events, clustered vectors.

COPY is the only way to a million rows in reasonable time, and PostgreSQL refuses it on tables whose row level
security binds the copying role. So the owner lifts FORCE for itself inside each loading transaction and restores it
before the commit; no other role is affected, and a load that fails changes nothing.
"""

import json
import secrets
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector import Vector

_EVENT_COLUMNS = (
    "tenant_id", "created_at", "id", "agent_id", "user_id", "action_type", "action_name", "status", "error",
    "input_summary", "output_summary", "latency_ms", "input_tokens", "output_tokens", "cost_usd", "metadata",
    "occurred_at", "session_id", "trace_id", "submitted_by", "content_salt",
)  # fmt: skip
_CHUNK_COLUMNS = ("tenant_id", "id", "document_id", "chunk_index", "content", "metadata", "embedding")
_BATCH = 20_000
_CHUNKS_PER_DOCUMENT = 25
_AGENTS = 20
_USERS = 5_000
# The first tenant is a large one, the others share the rest evenly.
_LARGEST_SHARE = 0.2
_MODELS = ("gpt-4o", "claude-sonnet-4-5", "llama-3.1-70b")
_TOOLS = ("kb_search", "lookup_customer", "lookup_invoice", "issue_refund", "send_email", "create_ticket")
_TARGETS = ("human", "agent", "queue")


@dataclass(frozen=True, slots=True)
class BulkPlan:
    """How much to make. Events spread over the `days` before now.

    `chunk_sizes` says how many chunks the first tenants get; the others share the rest evenly.
    """

    tenants: Sequence[uuid.UUID]
    events: int
    chunks: int
    dimensions: int
    days: int = 90
    seed: int = 42
    chunk_sizes: Sequence[int] = ()


async def load_bulk(connection: asyncpg.Connection, plan: BulkPlan, advance: Callable[[str, int], None]) -> None:
    """Load the plan as the owner of the tables; `advance(kind, rows)` is called as rows arrive."""
    rng = np.random.default_rng(plan.seed)
    await _load_events(connection, plan, rng, advance)
    if plan.chunks:
        await _load_chunks(connection, plan, rng, advance)
    await connection.execute("ANALYZE audit_events, kb_documents, kb_chunks")


async def _load_events(
    connection: asyncpg.Connection, plan: BulkPlan, rng: np.random.Generator, advance: Callable[[str, int], None]
) -> None:
    start = datetime.now(UTC) - timedelta(days=plan.days)
    step = timedelta(days=plan.days) / max(plan.events, 1)
    for first in range(0, plan.events, _BATCH):
        count = min(_BATCH, plan.events - first)
        async with connection.transaction():
            await connection.execute("ALTER TABLE audit_events NO FORCE ROW LEVEL SECURITY")
            await connection.copy_records_to_table(
                "audit_events", records=_events(plan, rng, start, step, first, count), columns=_EVENT_COLUMNS
            )
            await connection.execute("ALTER TABLE audit_events FORCE ROW LEVEL SECURITY")
        advance("events", count)


def _events(
    plan: BulkPlan, rng: np.random.Generator, start: datetime, step: timedelta, first: int, count: int
) -> Iterator[tuple[Any, ...]]:
    owners = _tenants_of(plan, rng, count)
    kinds, names, agents, users = (rng.integers(0, bound, count) for bound in (6, 3, _AGENTS, _USERS))
    latencies = np.minimum(rng.lognormal(6.3, 1.0, count).astype(int), 120_000)
    tokens_in, tokens_out = rng.integers(50, 4_000, count), rng.integers(10, 900, count)
    failures = rng.random(count) < 0.03
    traces = rng.integers(0, 2**62, count // 4 + 1)
    for n in range(count):
        created_at = start + step * (first + n)
        is_llm, is_tool = kinds[n] < 3, 3 <= kinds[n] < 5
        kind = "llm_call" if is_llm else "tool_invocation" if is_tool else "escalation"
        name = (_MODELS if is_llm else _TOOLS if is_tool else _TARGETS)[int(names[n])]
        failed = bool(failures[n])
        metadata = {"model": _MODELS[int(names[n])], "attempt": int(tokens_out[n]) % 3, "ticket": f"T-{first + n}"}
        yield (
            plan.tenants[owners[n]],
            created_at,
            _uuid7(created_at, first + n),
            uuid.UUID(int=0x9000 << 112 | int(agents[n])),
            f"user-{users[n]}",
            kind,
            name,
            "failed" if failed else "pending" if kind == "escalation" else "succeeded",
            "the provider answered with status 503" if failed else None,
            f"Summarise ticket T-{first + n} for the customer and propose a next step in plain words",
            f"The customer asks about invoice {int(tokens_in[n]) * 7919}; propose a refund and close the ticket",
            int(latencies[n]),
            int(tokens_in[n]) if is_llm else None,
            int(tokens_out[n]) if is_llm else None,
            round(int(tokens_in[n]) * 2.5e-6 + int(tokens_out[n]) * 1e-5, 6) if is_llm else None,
            json.dumps(metadata),
            created_at - timedelta(milliseconds=int(latencies[n])),
            f"conv-{int(traces[n // 4]) % 10**9:09d}",
            f"{int(traces[n // 4]):032x}",
            "bench",
            secrets.token_bytes(32),
        )


async def _load_chunks(
    connection: asyncpg.Connection, plan: BulkPlan, rng: np.random.Generator, advance: Callable[[str, int], None]
) -> None:
    await connection.set_type_codec(
        "vector", schema="public", encoder=Vector.to_binary, decoder=Vector.from_binary, format="binary"
    )
    # An HNSW index is built several times faster at once than row by row.
    definition = await connection.fetchval("SELECT pg_get_indexdef('kb_chunks_embedding_idx'::regclass)")
    async with connection.transaction():
        for table in ("kb_documents", "kb_chunks"):
            await connection.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        await connection.execute("DROP INDEX kb_chunks_embedding_idx")
        centres = rng.normal(size=(max(plan.chunks // 200, 1), plan.dimensions))
        documents = _documents_of(plan, rng)
        per_batch = _BATCH // _CHUNKS_PER_DOCUMENT
        for first in range(0, len(documents), per_batch):
            batch = documents[first : first + per_batch]
            await _copy_chunks(connection, plan, rng, centres, first, batch)
            advance("chunks", sum(size for _, size in batch))
        await connection.execute("SET LOCAL maintenance_work_mem = '1GB'")
        await connection.execute(definition.replace(" ON ONLY ", " ON "))
        for table in ("kb_documents", "kb_chunks"):
            await connection.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def _documents_of(plan: BulkPlan, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return the tenant's place and the number of chunks of each document, in the order in which they are loaded."""
    sizes = list(plan.chunk_sizes or [round(plan.chunks * _LARGEST_SHARE)])
    others = len(plan.tenants) - len(sizes)
    if others > 0:
        rest = plan.chunks - sum(sizes)
        sizes += [rest * (number + 1) // others - rest * number // others for number in range(others)]
    documents = [
        (tenant, min(_CHUNKS_PER_DOCUMENT, size - start))
        for tenant, size in enumerate(sizes)
        for start in range(0, size, _CHUNKS_PER_DOCUMENT)
    ]
    return [documents[place] for place in rng.permutation(len(documents))]


async def _copy_chunks(
    connection: asyncpg.Connection,
    plan: BulkPlan,
    rng: np.random.Generator,
    centres: NDArray[np.float64],
    first: int,
    batch: Sequence[tuple[int, int]],
) -> None:
    documents: list[tuple[Any, ...]] = []
    chunks: list[tuple[Any, ...]] = []
    for number, (owner, size) in enumerate(batch, start=first):
        tenant, document_id, key = plan.tenants[owner], uuid.uuid4(), f"bench-{number}"
        metadata = json.dumps({"topic": f"topic-{rng.integers(100)}", "region": ("eu", "us", "asia")[rng.integers(3)]})
        documents.append((tenant, document_id, key, f"Document {key}", "text/plain", metadata, 1, key, size))
        near = centres[rng.integers(0, len(centres), size)] + rng.normal(scale=0.35, size=(size, plan.dimensions))
        unit = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
        text = "How to reset a password, change the plan and read an invoice, step by step, with what may go wrong. "
        chunks.extend(
            (tenant, uuid.uuid4(), document_id, index, f"{key}/{index}: {text * 4}", "{}", Vector(vector))
            for index, vector in enumerate(unit)
        )
    columns = (
        "tenant_id", "id", "external_id", "title", "mime_type", "metadata", "version", "content_hash", "chunk_count",
    )  # fmt: skip
    await connection.copy_records_to_table("kb_documents", records=documents, columns=columns)
    await connection.copy_records_to_table("kb_chunks", records=chunks, columns=_CHUNK_COLUMNS)


def _tenants_of(plan: BulkPlan, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    others = rng.integers(min(1, len(plan.tenants) - 1), len(plan.tenants), count)
    return np.where(rng.random(count) < _LARGEST_SHARE, 0, others)


def _uuid7(instant: datetime, number: int) -> uuid.UUID:
    milliseconds = int(instant.timestamp() * 1000)
    return uuid.UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | number)
