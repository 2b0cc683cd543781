"""The schema: every root field, the scalars, and what happens to each operation before and after it runs."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import strawberry
from graphql import (
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    Undefined,
    print_schema,
)
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext
from strawberry.types.execution import ParseOptions

from app.errors import ServiceError
from graphql_schema.audit.mutations import AuditMutations
from graphql_schema.audit.queries import AuditQueries
from graphql_schema.context import Context
from graphql_schema.documents import DocumentCache
from graphql_schema.errors import hide_suggestions, mask_error
from graphql_schema.introspection import IntrospectionRefused
from graphql_schema.kb.mutations import KbMutations
from graphql_schema.kb.queries import KbQueries
from graphql_schema.limits import check_document, check_single_operation
from graphql_schema.scalars import SCALARS
from graphql_schema.user_errors import (
    EmbeddingDimensionMismatchError,
    IdempotencyConflictError,
    InvalidInputError,
)
from graphql_schema.viewer import CommonQueries


@strawberry.type(description="Reading: the audit trail and the knowledge base of your tenant.")
class Query(CommonQueries, AuditQueries, KbQueries):
    """All query fields."""


@strawberry.type(
    description=(
        "Writing. Events are only ever added. Expected mistakes come back as `userErrors` beside the result; nothing"
        " is stored for what was rejected."
    )
)
class Mutation(AuditMutations, KbMutations):
    """All mutation fields."""


class KonstructSchema(strawberry.Schema):
    """Strawberry's schema, with our answer to errors: they leave the process masked, on every transport."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.documents = DocumentCache()

    @property
    def graphql_schema(self) -> GraphQLSchema:
        """The schema as graphql-core has it."""
        return self._schema

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Mask the errors of one operation in place."""
        context = None if execution_context is None else execution_context.context
        if not isinstance(context, Context):
            return
        for error in errors:
            if self.config.disable_field_suggestions:
                hide_suggestions(error)
            mask_error(error, context.record)
            code = (error.extensions or {}).get("code", "INTERNAL")
            context.services.metrics.errors.labels(code).inc()


class Gatekeeper(SchemaExtension):
    """Spares known documents their parsing and validation, measures every one, and checks who sends it."""

    def on_operation(self) -> Iterator[None]:
        """Take a document that is known to be valid from the cache; bound the parser's work on any other."""
        execution = self.execution_context
        context: Context = execution.context
        execution.parse_options = ParseOptions(max_tokens=context.limits.query_tokens)
        execution.graphql_document = _documents(execution).find(context.tenant_id, execution.query or "")
        self._is_known = execution.graphql_document is not None
        yield

    async def on_validate(self) -> AsyncIterator[None]:
        """Refuse what is too much, or whose credential has ended; a document that is refused is not validated."""
        execution = self.execution_context
        context: Context = execution.context
        context.record.operation = (execution.operation_name or "")[:100] or None
        document = execution.graphql_document
        try:
            if context.connection_params is not None:
                await context.authenticate(context.authorization)
            if document is not None:
                # Strawberry would run the first of several operations, for want of a name.
                if execution._provided_operation_name is None:  # noqa: SLF001
                    check_single_operation(document)
                check_document(document, execution.variables, context.limits)
        except ServiceError as error:
            execution.pre_execution_errors = [GraphQLError(error.message, original_error=error)]
        if self._is_known:
            execution.validation_rules = ()
        yield
        if document is not None and not self._is_known and not execution.pre_execution_errors:
            _documents(execution).remember(context.tenant_id, execution.query or "", document)


def _documents(execution: ExecutionContext) -> DocumentCache:
    schema = execution.schema
    if not isinstance(schema, KonstructSchema):
        raise TypeError("the gatekeeper guards our own schema only")
    return schema.documents


def create_schema(*, introspection: bool) -> KonstructSchema:
    """Build the schema. Without introspection, error messages suggest no names either."""
    extensions: list[Any] = [Gatekeeper]
    if not introspection:
        extensions.append(IntrospectionRefused)
    schema = KonstructSchema(
        query=Query,
        mutation=Mutation,
        types=[InvalidInputError, IdempotencyConflictError, EmbeddingDimensionMismatchError],
        extensions=extensions,
        config=StrawberryConfig(scalar_map=SCALARS, disable_field_suggestions=not introspection),
    )
    _drop_null_defaults(schema.graphql_schema)
    _mark_one_of(schema.graphql_schema)
    return schema


def print_sdl() -> str:
    """Return the schema as SDL, as it is committed beside this module and as code generators read it."""
    return print_schema(create_schema(introspection=True).graphql_schema) + "\n"


def _drop_null_defaults(schema: GraphQLSchema) -> None:
    """Say nothing instead of `= null` wherever an input may be left out."""
    for graphql_type in schema.type_map.values():
        if isinstance(graphql_type, GraphQLInputObjectType):
            inputs = list(graphql_type.fields.values())
        elif isinstance(graphql_type, GraphQLObjectType | GraphQLInterfaceType):
            inputs = [argument for field in graphql_type.fields.values() for argument in field.args.values()]
        else:
            continue
        for item in inputs:
            if item.default_value is None:
                item.default_value = Undefined


def _mark_one_of(schema: GraphQLSchema) -> None:
    """Tell graphql-core of the @oneOf inputs, which Strawberry keeps to itself, so that it prints and checks them."""
    for graphql_type in schema.type_map.values():
        if isinstance(graphql_type, GraphQLInputObjectType):
            definition = graphql_type.extensions.get("strawberry-definition")
            graphql_type.is_one_of = bool(definition is not None and definition.is_one_of)
