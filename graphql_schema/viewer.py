"""Who is asking, and the one field that finds anything by its id."""

from typing import Annotated
from uuid import UUID

import strawberry

from app.audit.query import find_events
from app.auth.principal import Scope
from app.kb.documents import find_chunk, find_documents
from graphql_schema.audit.types import AuditEvent
from graphql_schema.context import Info
from graphql_schema.enums import graphql_enum
from graphql_schema.kb.types import KbChunk, KbDocument
from graphql_schema.pagination import Node, find_uuid

graphql_enum(
    Scope,
    name="Scope",
    description="What a credential may do.",
    values={
        "AUDIT_WRITE": "Log events.",
        "AUDIT_READ": "Read the audit trail.",
        "KB_READ": "Read and search the knowledge base.",
        "KB_WRITE": "Ingest and delete documents.",
    },
)


@strawberry.type(description="The credential of this request, and what it may do.")
class Viewer:
    """The caller."""

    tenant_id: UUID = strawberry.field(description="The tenant whose data this credential reaches, and no other's.")
    tenant_name: str = strawberry.field(description="The tenant's name.")
    subject: str = strawberry.field(description="The credential's name; events that it logs carry it.")
    scopes: list[Scope] = strawberry.field(description="What it may do.")
    agent_id: UUID | None = strawberry.field(description="The one agent it is bound to, if it is.")


@strawberry.type
class CommonQueries:
    """Root query fields that belong to no part of the product alone."""

    @strawberry.field(description="Who am I? A good first query: the tenant and the scopes of your credential.")
    async def viewer(self, info: Info) -> Viewer:
        """Describe the caller."""
        caller = info.context.caller
        return Viewer(
            tenant_id=caller.tenant_id,
            tenant_name=caller.tenant_name,
            subject=caller.subject,
            scopes=sorted(caller.scopes),
            agent_id=caller.agent_id,
        )

    @strawberry.field(
        description=(
            "Any object of your tenant by its id; null when there is none, or when your credential may not read its"
            " kind."
        )
    )
    async def node(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The object's `id`.")],
    ) -> Node | None:
        """Look in each kind of object that the caller may read."""
        context = info.context
        scopes = context.caller.scopes
        node_id = find_uuid(id)
        if node_id is None:
            return None
        async with context.reading_session() as session:
            if Scope.AUDIT_READ in scopes and (event := (await find_events(session, [node_id])).get(node_id)):
                return AuditEvent.from_event(event)
            if Scope.KB_READ in scopes:
                if document := (await find_documents(session, [node_id])).get(node_id):
                    return KbDocument.from_model(document)
                if chunk := await find_chunk(session, node_id):
                    return KbChunk.from_model(chunk)
        return None
