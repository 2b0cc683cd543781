"""Audit events and their pages, as clients read them."""

import dataclasses
from datetime import datetime
from decimal import Decimal
from typing import Optional, Self
from uuid import UUID

import strawberry

from app.audit.events import RecordedEvent
from app.audit.filter import AuditEventFilter
from app.audit.query import JsonPage, count_events
from app.audit.representation import JsonMember, can_be_written
from app.auth.principal import Scope
from app.pagination import Page
from app.validation import JsonText
from graphql_schema.audit.enums import ActionType, EventStatus
from graphql_schema.context import Info
from graphql_schema.lookahead import Selection, names_below, snake_case
from graphql_schema.pagination import NO_PAGE_INFO, BoundedCount, Node, PageInfo, page_info
from graphql_schema.plans import plain_parts
from graphql_schema.rows import Row, RowFormat, RowObject, Rows, WrittenList
from graphql_schema.scalars import BigInt, Json, format_decimal, json_date_time, json_fragment


@strawberry.type(description="What an agent did, as it was acknowledged. An event is never changed or removed.")
class AuditEvent(Node):
    """One recorded event."""

    action_type: ActionType = strawberry.field(description="What kind of action it is.")
    action_name: str | None = strawberry.field(
        description="The model, the tool, or the escalation's target (`human`, `agent` or `queue`)."
    )
    status: EventStatus = strawberry.field(description="How the action ended, as far as it has.")
    error: str | None = strawberry.field(description="What went wrong, in the agent's words.")
    agent_id: UUID | None = strawberry.field(description="The agent that acted.")
    user_id: str | None = strawberry.field(description="The person on whose behalf the agent acted.")
    session_id: str | None = strawberry.field(description="The conversation or session the action belongs to.")
    trace_id: str | None = strawberry.field(description="The run of the agent that the action belongs to.")
    input_summary: str | None = strawberry.field(description="What went into the action, in short.")
    output_summary: str | None = strawberry.field(description="What came out of the action, in short.")
    latency_ms: int | None = strawberry.field(description="How long the action took, in milliseconds.")
    metadata: Json = strawberry.field(
        description="Free-form details, always an object. Integers of any size come back digit for digit."
    )
    input_tokens: int | None = strawberry.field(description="Tokens that the model read.")
    output_tokens: int | None = strawberry.field(description="Tokens that the model wrote.")
    cost_usd: Decimal | None = strawberry.field(description="What the action cost, in US dollars, exactly.")
    created_at: datetime = strawberry.field(
        description=(
            "When the trail began to record the event, by the database's clock; it may be some milliseconds before the"
            " event came in. Lists are in this order."
        )
    )
    occurred_at: datetime | None = strawberry.field(description="When the action happened, by the client's account.")
    submitted_by: str = strawberry.field(description="The name of the credential that wrote the event.")
    sequence: BigInt | None = strawberry.field(
        description=(
            "The event's place in your tenant's sealed log, counted from 0 in the order of commits; null until it is"
            " sealed, which takes about a second. Pass it as `afterSequence` to go on from here."
        )
    )
    parent_event_id: strawberry.Private[UUID | None]

    @strawberry.field(
        description=(
            "The event that led to this one. Null when there is none or it is not (yet) in this trail. Needs the scope"
            " AUDIT_READ."
        )
    )
    async def parent_event(self, info: Info) -> Optional["AuditEvent"]:
        """Load the parents of all events of the answer at once."""
        if self.parent_event_id is None:
            return None
        # A credential that may only write gets its own event back, and no other.
        info.context.require(Scope.AUDIT_READ)
        parent = await info.context.events.load(self.parent_event_id)
        return None if parent is None else AuditEvent.from_event(parent)

    @classmethod
    def from_event(cls, event: RecordedEvent) -> Self:
        """Show a recorded event."""
        return cls(
            id=strawberry.ID(str(event.id)),
            action_type=ActionType(event.action_type),
            action_name=event.action_name,
            status=EventStatus(event.status),
            error=event.error,
            agent_id=event.agent_id,
            user_id=event.user_id,
            session_id=event.session_id,
            trace_id=event.trace_id,
            input_summary=event.input_summary,
            output_summary=event.output_summary,
            latency_ms=event.latency_ms,
            metadata=Json(event.event_metadata),
            input_tokens=event.input_tokens,
            output_tokens=event.output_tokens,
            cost_usd=event.cost_usd,
            created_at=event.created_at,
            occurred_at=event.occurred_at,
            submitted_by=event.submitted_by,
            sequence=None if event.sequence is None else BigInt(event.sequence),
            parent_event_id=event.parent_event_id,
        )


_ACTION_TYPE_NAMES = {member.value: member.name for member in ActionType}
_STATUS_NAMES = {member.value: member.name for member in EventStatus}

# The columns of the fields whose own name is not that of their column.
_COLUMNS = {"metadata": "event_metadata", "parent_event": "parent_event_id"}


class AuditEventRow(RowObject, AuditEvent):
    """An event that is a row of a page."""

    row_format = RowFormat(
        {field.name: _COLUMNS.get(field.name, field.name) for field in dataclasses.fields(AuditEvent)},
        to_attribute={
            "id": lambda value: strawberry.ID(str(value)),
            "action_type": ActionType,
            "status": EventStatus,
            "metadata": JsonText,
        },
        to_json={
            "id": str,
            "action_type": _ACTION_TYPE_NAMES.__getitem__,
            "status": _STATUS_NAMES.__getitem__,
            "agent_id": str,
            "metadata": json_fragment,
            "cost_usd": format_decimal,
            "created_at": json_date_time,
            "occurred_at": json_date_time,
            "sequence": str,
        },
    )


def event_columns(selected: Selection) -> list[str]:
    """Return the columns of events that a connection's selection needs."""
    names = {*names_below(selected, "nodes"), *names_below(selected, "edges", "node")}
    fields = (snake_case(name) for name in names if not name.startswith("__"))
    return sorted(_COLUMNS.get(field, field) for field in fields)


def json_members(info: Info) -> list[JsonMember] | None:
    """Return what is selected of a connection's `nodes`, where PostgreSQL can write it as JSON."""
    parts = plain_parts(info, "nodes")
    if parts is None:
        return None
    members = [
        JsonMember(key, None if attribute is None else _COLUMNS.get(attribute, attribute), constant)
        for key, attribute, constant in parts
    ]
    return members if can_be_written(members) else None


@strawberry.type(description="One event of a page, with its cursor.")
class AuditEventEdge:
    """The Relay edge."""

    cursor: str = strawberry.field(description="The event's place in the list, for `after` and `before`.")
    node: AuditEvent = strawberry.field(description="The event.")


@strawberry.type(description="One page of events.")
class AuditEventConnection:
    """The Relay connection."""

    nodes: list[AuditEvent] = strawberry.field(description="The page's events.")
    edges: list[AuditEventEdge] = strawberry.field(description="The page's events, each with its cursor.")
    page_info: PageInfo = strawberry.field(description="Where the page lies in the list.")
    where: strawberry.Private[AuditEventFilter]

    @strawberry.field(
        description="How many events match, counted up to 10,000. It is counted only when it is asked for."
    )
    async def total_count(self, info: Info) -> BoundedCount:
        """Count in a session of its own, beside the page."""
        context = info.context
        async with context.reading_session() as session:
            count = await count_events(session, self.where, context.limits)
        return BoundedCount(value=count.value, is_exact=count.is_exact)

    @classmethod
    def from_page(cls, page: Page[Row], where: AuditEventFilter, selected: Selection) -> Self:
        """Show what is selected of a page."""
        edges = []
        if "edges" in selected:
            edges = [AuditEventEdge(cursor=page.cursor_of(row), node=AuditEventRow.from_row(row)) for row in page.items]
        return cls(
            nodes=Rows(page.items, AuditEventRow),
            edges=edges,
            page_info=page_info(page) if "pageInfo" in selected else NO_PAGE_INFO,
            where=where,
        )

    @classmethod
    def from_json(cls, page: JsonPage, where: AuditEventFilter) -> Self:
        """Show a page that is written already."""
        return cls(
            nodes=WrittenList(page.events),
            edges=[],
            page_info=PageInfo(
                has_next_page=page.has_next,
                has_previous_page=page.has_previous,
                start_cursor=page.start_cursor,
                end_cursor=page.end_cursor,
            ),
            where=where,
        )
