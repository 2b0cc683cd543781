"""Changing the knowledge base."""

from typing import Annotated, Self
from uuid import UUID

import strawberry

from app.auth.principal import Scope
from app.errors import InvalidInput, UserMistake
from app.kb.documents import delete_document
from app.kb.ingest import IngestResult
from graphql_schema.context import Info
from graphql_schema.kb.enums import IngestOutcome
from graphql_schema.kb.inputs import DeleteKbDocumentInput, IngestKbDocumentInput, IngestKbDocumentsInput
from graphql_schema.kb.types import KbDocument
from graphql_schema.pagination import find_uuid
from graphql_schema.user_errors import UserError, user_errors


@strawberry.type(description="What became of the document.")
class IngestKbDocumentPayload:
    """Answer of `ingestKbDocument`."""

    document: KbDocument | None = strawberry.field(description="The document as it is stored; null when rejected.")
    outcome: IngestOutcome = strawberry.field(description="What was done.")
    user_errors: list[UserError] = strawberry.field(description="Why it was rejected; empty when it was not.")

    @classmethod
    def from_result(cls, result: IngestResult) -> Self:
        """Show the outcome."""
        return cls(document=_document(result), outcome=result.outcome, user_errors=user_errors(result.mistake))


@strawberry.type(description="What became of one document of a batch.")
class IngestKbDocumentResult:
    """One item of the answer of `ingestKbDocuments`."""

    document: KbDocument | None = strawberry.field(description="The document as it is stored; null when rejected.")
    outcome: IngestOutcome = strawberry.field(description="What was done.")
    user_errors: list[UserError] = strawberry.field(description="Why it was rejected; empty when it was not.")


@strawberry.type(description="What became of the documents of a batch.")
class IngestKbDocumentsPayload:
    """Answer of `ingestKbDocuments`."""

    results: list[IngestKbDocumentResult] = strawberry.field(
        description="One result a document, in the order they were sent. Each is stored, or not, on its own."
    )
    user_errors: list[UserError] = strawberry.field(
        description="The mistakes of all documents, each with its index, and of the batch as a whole."
    )


@strawberry.type(description="What was deleted.")
class DeleteKbDocumentPayload:
    """Answer of `deleteKbDocument`."""

    deleted_id: strawberry.ID | None = strawberry.field(description="The deleted document's id; null when none was.")
    user_errors: list[UserError] = strawberry.field(description="Why nothing was deleted; empty when it was.")


@strawberry.type
class KbMutations:
    """Root mutation fields of the knowledge base."""

    @strawberry.mutation(
        description=(
            "Take a document in, or bring it up to date: readers see the old version or the new, never a mixture."
            " Needs the scope KB_WRITE."
        )
    )
    async def ingest_kb_document(
        self,
        info: Info,
        input: Annotated[IngestKbDocumentInput, strawberry.argument(description="The document.")],
    ) -> IngestKbDocumentPayload:
        """Ingest one document."""
        caller = info.context.require(Scope.KB_WRITE)
        result = await info.context.services.ingester.ingest(caller.tenant_id, input.to_document())
        return IngestKbDocumentPayload.from_result(result)

    @strawberry.mutation(description="Take up to 50 documents in, an outcome each. Needs the scope KB_WRITE.")
    async def ingest_kb_documents(
        self,
        info: Info,
        input: Annotated[IngestKbDocumentsInput, strawberry.argument(description="The documents.")],
    ) -> IngestKbDocumentsPayload:
        """Ingest a batch, one document after the other."""
        context = info.context
        caller = context.require(Scope.KB_WRITE)
        documents = input.documents
        allowed = context.limits.documents_per_batch
        if not 1 <= len(documents) <= allowed:
            mistake = InvalidInput(("documents",), f"must hold between 1 and {allowed} documents, got {len(documents)}")
            return IngestKbDocumentsPayload(results=[], user_errors=user_errors(mistake))
        results = []
        for index, document in enumerate(documents):
            result = await context.services.ingester.ingest(caller.tenant_id, document.to_document())
            results.append(
                IngestKbDocumentResult(
                    document=_document(result),
                    outcome=result.outcome,
                    user_errors=user_errors(result.mistake, index),
                )
            )
        return IngestKbDocumentsPayload(
            results=results, user_errors=[error for result in results for error in result.user_errors]
        )

    @strawberry.mutation(
        description=(
            "Delete a document with its chunks. Audit events about it stay as they are. Needs the scope KB_WRITE."
        )
    )
    async def delete_kb_document(
        self,
        info: Info,
        input: Annotated[DeleteKbDocumentInput, strawberry.argument(description="Which one.")],
    ) -> DeleteKbDocumentPayload:
        """Delete one document."""
        context = info.context
        context.require(Scope.KB_WRITE)
        try:
            async with context.tenant_session() as session:
                deleted = await delete_document(
                    session,
                    document_id=None if input.id is None else find_uuid(input.id) or _NO_DOCUMENT,
                    external_id=input.external_id,
                )
        except UserMistake as mistake:
            return DeleteKbDocumentPayload(deleted_id=None, user_errors=user_errors(mistake))
        return DeleteKbDocumentPayload(deleted_id=strawberry.ID(str(deleted)), user_errors=[])


# The nil UUID: text that is no UUID is the id of nothing.
_NO_DOCUMENT = UUID(int=0)


def _document(result: IngestResult) -> KbDocument | None:
    return None if result.document is None else KbDocument.from_model(result.document)
