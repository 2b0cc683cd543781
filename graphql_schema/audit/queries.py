"""Reading the audit trail."""

from typing import Annotated

import strawberry

from app.audit.filter import AuditEventFilter
from app.audit.query import find_events, list_events, list_events_as_json
from app.auth.principal import Scope
from app.pagination import PageRequest
from graphql_schema.arguments import After, Before, First, Last
from graphql_schema.audit.enums import OrderDirection, OrderField
from graphql_schema.audit.inputs import AuditEventFilterInput, AuditEventOrder
from graphql_schema.audit.types import AuditEvent, AuditEventConnection, event_columns, json_members
from graphql_schema.context import Info
from graphql_schema.pagination import find_uuid
from graphql_schema.plans import selection

Filter = Annotated[
    AuditEventFilterInput | None,
    strawberry.argument(description="Which events are wanted; all when left out."),
]
OrderBy = Annotated[AuditEventOrder | None, strawberry.argument(description="The order of the list.")]

_NEWEST_FIRST = AuditEventOrder(field=OrderField.CREATED_AT, direction=OrderDirection.DESC)


@strawberry.type
class AuditQueries:
    """Root query fields of the audit trail."""

    @strawberry.field(
        description=(
            "A page of your tenant's events, newest first unless ordered otherwise. Page on with `first` and `after`,"
            " or back from the end with `last` and `before`. Needs the scope AUDIT_READ."
        )
    )
    async def audit_events(
        self,
        info: Info,
        filter: Filter = None,
        order_by: OrderBy = _NEWEST_FIRST,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> AuditEventConnection:
        """Return one page."""
        context = info.context
        context.require(Scope.AUDIT_READ)
        page = PageRequest(first=first, after=after, last=last, before=before)
        where = filter.to_filter() if filter else AuditEventFilter()
        order = (order_by or _NEWEST_FIRST).to_order()
        selected = selection(info)
        members = None if page.is_backward or "edges" in selected else json_members(info)
        async with context.reading_session() as session:
            if members is None:
                columns = event_columns(selected)
                events = await list_events(session, where, page, context.limits, columns=columns, order=order)
                return AuditEventConnection.from_page(events, where, selected)
            written = await list_events_as_json(
                session, where, page, context.limits,
                members=members, order=order, with_ends="pageInfo" in selected,
            )  # fmt: skip
        return AuditEventConnection.from_json(written, where)

    @strawberry.field(
        description="One event of your tenant, or null when there is none with this id. Needs the scope AUDIT_READ."
    )
    async def audit_event(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The event's `id`.")],
    ) -> AuditEvent | None:
        """Return the event."""
        context = info.context
        context.require(Scope.AUDIT_READ)
        event_id = find_uuid(id)
        if event_id is None:
            return None
        async with context.reading_session() as session:
            event = (await find_events(session, [event_id])).get(event_id)
        return None if event is None else AuditEvent.from_event(event)
