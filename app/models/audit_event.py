"""The audit trail: one insert-only row an event, and the keys that make a retried insert harmless."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Computed, ForeignKeyConstraint, Index, func, select, text
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlalchemy.orm import Mapped, column_property, mapped_column

from app.database.tenant_owned import TenantOwned
from app.models.audit_log import AuditLogLeaf
from app.models.base import Base, Name, Xid8
from app.validation import JsonText

_SEARCH_VECTOR = (
    "to_tsvector('simple'::regconfig, COALESCE(action_name, '') || ' ' || COALESCE(input_summary, '') || ' '"
    " || COALESCE(output_summary, '') || ' ' || COALESCE(error, ''))"
)
_COST_KEY = "CASE WHEN cost_usd IS NULL THEN -1 ELSE LEAST(cost_usd * 1000000000000, 9223372036854775807)::bigint END"


class AuditEvent(TenantOwned, Base):
    """What an agent did, as it was acknowledged. The database refuses UPDATE, DELETE and TRUNCATE to everyone.

    Partitioned by month on `created_at`. Columns that the runtime role may not set (created_at, xid) have server
    defaults only, so that an event can't be backdated.
    """

    __tablename__ = "audit_events"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        CheckConstraint("action_type IN ('llm_call', 'tool_invocation', 'escalation')", name="action_type"),
        CheckConstraint("status IN ('succeeded', 'failed', 'denied', 'pending')", name="status"),
        CheckConstraint("jsonb_typeof(metadata) = 'object'", name="metadata"),
        CheckConstraint("latency_ms >= 0", name="latency_ms"),
        CheckConstraint("input_tokens >= 0", name="input_tokens"),
        CheckConstraint("output_tokens >= 0", name="output_tokens"),
        CheckConstraint("cost_usd >= 0", name="cost_usd"),
        Index("audit_events_id_idx", "tenant_id", "id"),
        Index("audit_events_action_type_idx", "tenant_id", "action_type", "created_at", "id"),
        Index("audit_events_agent_id_idx", "tenant_id", "agent_id", "created_at", "id"),
        Index(
            "audit_events_trace_id_idx",
            "tenant_id",
            "trace_id",
            postgresql_where=text("trace_id IS NOT NULL"),
        ),
        Index(
            "audit_events_session_id_idx",
            "tenant_id",
            "session_id",
            postgresql_where=text("session_id IS NOT NULL"),
        ),
        Index(
            "audit_events_search_idx",
            "tenant_id",
            "metadata",
            "search_vector",
            postgresql_using="gin",
            postgresql_ops={"metadata": "jsonb_path_ops"},
        ),
        Index("audit_events_xid_idx", "xid", "id"),
        Index("audit_events_latency_idx", "tenant_id", "latency_key", "id"),
        Index("audit_events_cost_idx", "tenant_id", "cost_key", "id"),
        {"postgresql_partition_by": "RANGE (created_at)"},
    )

    created_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=func.now())
    id: Mapped[UUID] = mapped_column(primary_key=True)
    agent_id: Mapped[UUID | None]
    user_id: Mapped[Name | None]
    action_type: Mapped[Name]
    action_name: Mapped[Name | None]
    status: Mapped[Name]
    error: Mapped[str | None]
    input_summary: Mapped[str | None]
    output_summary: Mapped[str | None]
    latency_ms: Mapped[int | None]
    input_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    cost_usd: Mapped[Decimal | None]
    # SQLAlchemy reserves the attribute name `metadata`.
    event_metadata: Mapped[JsonText] = mapped_column("metadata", JSONB, server_default=text("'{}'"))
    occurred_at: Mapped[datetime | None]
    session_id: Mapped[Name | None]
    trace_id: Mapped[Name | None]
    parent_event_id: Mapped[UUID | None]
    submitted_by: Mapped[Name]
    # The words of the texts, for the filter `search`.
    search_vector: Mapped[str] = mapped_column(TSVECTOR, Computed(_SEARCH_VECTOR, persisted=True), deferred=True)
    # What lists by latency and by cost are ordered by: -1 for none, and picodollars.
    latency_key: Mapped[int] = mapped_column(Computed("COALESCE(latency_ms, -1)", persisted=True), deferred=True)
    cost_key: Mapped[int] = mapped_column(BigInteger, Computed(_COST_KEY, persisted=True), deferred=True)
    # 32 random bytes that salt the commitment to personal content in the tamper-evident log.
    content_salt: Mapped[bytes | None]
    # The inserting transaction, from which the log's sealer reads in a commit-safe order.
    xid: Mapped[int] = mapped_column(Xid8(), server_default=text("pg_current_xact_id()"))


# Its place in the tenant's sealed log; NULL until it is sealed.
AuditEvent.sequence = column_property(
    select(AuditLogLeaf.sequence)
    .where(AuditLogLeaf.tenant_id == AuditEvent.tenant_id, AuditLogLeaf.event_id == AuditEvent.id)
    .correlate_except(AuditLogLeaf)
    .scalar_subquery(),
    deferred=True,
)


class AuditIdempotencyKey(TenantOwned, Base):
    """A client's key for one event, kept for ever, so that a retry finds the first event again."""

    __tablename__ = "audit_idempotency_keys"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        CheckConstraint("octet_length(body_hash) = 32", name="body_hash"),
    )

    key: Mapped[Name] = mapped_column(primary_key=True)
    event_id: Mapped[UUID]
    # Equal to the event's own created_at: both are the time of the one transaction that wrote them.
    event_created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    body_hash: Mapped[bytes]
