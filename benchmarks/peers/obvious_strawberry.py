"""The obvious server: what a team would write first with Strawberry and SQLAlchemy's ORM.

Entities over the same tables, a session for each field, the tenant from a header, as in peers/postgraphile.mjs. It
has no credentials, limits or idempotency keys, and maps only the columns that its own API knows.
"""

import os
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid4

import strawberry
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import DateTime, Numeric, func, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from strawberry.asgi import GraphQL
from strawberry.scalars import JSON

engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=10)
new_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """Base of the entities."""


class EventEntity(Base):
    """An audit event."""

    __tablename__ = "audit_events"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID]
    agent_id: Mapped[UUID | None]
    user_id: Mapped[str | None]
    action_type: Mapped[str]
    action_name: Mapped[str | None]
    status: Mapped[str]
    input_summary: Mapped[str | None]
    output_summary: Mapped[str | None]
    latency_ms: Mapped[int | None]
    cost_usd: Mapped[Decimal | None] = mapped_column(Numeric)
    details: Mapped[dict[str, object]] = mapped_column("metadata", JSONB)
    submitted_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class ChunkEntity(Base):
    """A passage of a document."""

    __tablename__ = "kb_chunks"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    document_id: Mapped[UUID]
    chunk_index: Mapped[int]
    content: Mapped[str]
    embedding: Mapped[list[float]] = mapped_column("embedding_half", HALFVEC(384))


@strawberry.type
class AuditEvent:
    """An audit event."""

    id: UUID
    agent_id: UUID | None
    user_id: str | None
    action_type: str
    action_name: str | None
    status: str
    input_summary: str | None
    output_summary: str | None
    latency_ms: int | None
    cost_usd: Decimal | None
    metadata: JSON
    created_at: datetime

    @classmethod
    def from_entity(cls, event: EventEntity) -> "AuditEvent":
        """Return what the API shows of an entity."""
        return cls(
            id=event.id,
            agent_id=event.agent_id,
            user_id=event.user_id,
            action_type=event.action_type,
            action_name=event.action_name,
            status=event.status,
            input_summary=event.input_summary,
            output_summary=event.output_summary,
            latency_ms=event.latency_ms,
            cost_usd=event.cost_usd,
            metadata=JSON(event.details),
            created_at=event.created_at,
        )


@strawberry.type
class Chunk:
    """A passage of a document."""

    id: UUID
    document_id: UUID
    chunk_index: int
    content: str


@strawberry.type
class Hit:
    """A passage that a search found."""

    score: float
    chunk: Chunk


@strawberry.type
class EventStats:
    """Figures of the events with one action name."""

    action_name: str | None
    count: int
    failed_count: int
    latency_p50: float | None
    latency_p95: float | None
    cost_usd: Decimal


@strawberry.input
class NewEvent:
    """A call of a language model."""

    action_name: str
    input_summary: str | None = None
    output_summary: str | None = None
    latency_ms: int | None = None
    metadata: JSON | None = None


async def use_tenant(session: AsyncSession, info: strawberry.Info) -> UUID:
    """Let row level security show the tenant of the request's header."""
    tenant_id = info.context["request"].headers["x-tenant"]
    await session.execute(text("SELECT set_config('app.current_tenant', :tenant, true)"), {"tenant": tenant_id})
    return UUID(tenant_id)


@strawberry.type
class Query:
    """What can be asked."""

    @strawberry.field
    async def events(self, info: strawberry.Info, first: int = 50, action_type: str | None = None) -> list[AuditEvent]:
        """Events, newest first."""
        query = select(EventEntity).order_by(EventEntity.created_at.desc(), EventEntity.id.desc()).limit(first)
        if action_type is not None:
            query = query.where(EventEntity.action_type == action_type)
        async with new_session.begin() as session:
            await use_tenant(session, info)
            events = await session.scalars(query)
            return [AuditEvent.from_entity(event) for event in events]

    @strawberry.field
    async def search(self, info: strawberry.Info, vector: list[float], limit: int = 10) -> list[Hit]:
        """Passages nearest to a vector."""
        distance = ChunkEntity.embedding.cosine_distance(vector)
        query = select(ChunkEntity, distance).order_by(distance).limit(limit)
        async with new_session.begin() as session:
            # Row level security is no help in finding the partition.
            query = query.where(ChunkEntity.tenant_id == await use_tenant(session, info))
            return [
                Hit(
                    score=1 - away,
                    chunk=Chunk(
                        id=chunk.id,
                        document_id=chunk.document_id,
                        chunk_index=chunk.chunk_index,
                        content=chunk.content,
                    ),
                )
                for chunk, away in await session.execute(query)
            ]

    @strawberry.field
    async def event_stats(self, info: strawberry.Info, since: datetime) -> list[EventStats]:
        """Figures by action name."""
        query = (
            select(
                EventEntity.action_name,
                func.count().label("count"),
                func.count().filter(EventEntity.status == "failed").label("failed_count"),
                func.percentile_cont(0.5).within_group(EventEntity.latency_ms).label("latency_p50"),
                func.percentile_cont(0.95).within_group(EventEntity.latency_ms).label("latency_p95"),
                func.coalesce(func.sum(EventEntity.cost_usd), 0).label("cost_usd"),
            )
            .where(EventEntity.created_at >= since)
            .group_by(EventEntity.action_name)
        )
        async with new_session.begin() as session:
            await use_tenant(session, info)
            groups = (await session.execute(query)).mappings()
            return [EventStats(**group) for group in groups]


@strawberry.type
class Mutation:
    """What can be done."""

    @strawberry.mutation
    async def log_llm_call(self, info: strawberry.Info, event: NewEvent) -> AuditEvent:
        """Record a call of a language model."""
        async with new_session.begin() as session:
            entity = EventEntity(
                tenant_id=await use_tenant(session, info),
                action_type="llm_call",
                action_name=event.action_name,
                status="succeeded",
                input_summary=event.input_summary,
                output_summary=event.output_summary,
                latency_ms=event.latency_ms,
                details=event.metadata or {},
                submitted_by="bench",
            )
            session.add(entity)
        # The block's end has flushed the entity, with what the database made of it, and committed.
        return AuditEvent.from_entity(entity)


app: GraphQL[object, object] = GraphQL(strawberry.Schema(Query, Mutation))
