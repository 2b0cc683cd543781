"""The schema: every root field, the scalars, and what happens to each operation before and after it runs."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any

import strawberry
from graphql import (
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    Undefined,
    assert_valid_schema,
    parse,
    print_schema,
)
from graphql import (
    OperationType as CoreOperationType,
)
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType

from graphql_schema.audit.analytics import AuditAnalytics
from graphql_schema.audit.mutations import AuditMutations
from graphql_schema.audit.queries import AuditQueries
from graphql_schema.audit.subscriptions import AuditSubscriptions
from graphql_schema.context import Context
from graphql_schema.documents import DocumentCache, KnownDocument
from graphql_schema.errors import hide_suggestions, mask_error
from graphql_schema.execution import PlainExecutor
from graphql_schema.kb.mutations import KbMutations
from graphql_schema.kb.queries import KbQueries
from graphql_schema.resolvers import call_resolvers_directly
from graphql_schema.scalars import SCALARS
from graphql_schema.user_errors import (
    EmbeddingDimensionMismatchError,
    IdempotencyConflictError,
    InvalidInputError,
)
from graphql_schema.validation import find_errors
from graphql_schema.viewer import CommonQueries

# Strawberry's name of graphql-core's.
_OPERATION_TYPES = {kind: OperationType(kind.value) for kind in CoreOperationType}


@strawberry.type(description="Reading: the audit trail and the knowledge base of your tenant.")
class Query(CommonQueries, AuditQueries, AuditAnalytics, KbQueries):
    """All query fields."""


@strawberry.type(
    description=(
        "Writing. Events are only ever added. Expected mistakes come back as `userErrors` beside the result; nothing"
        " is stored for what was rejected."
    )
)
class Mutation(AuditMutations, KbMutations):
    """All mutation fields."""


@strawberry.type(description="Following what happens, as it happens.")
class Subscription(AuditSubscriptions):
    """All subscription fields."""


class KonstructSchema(strawberry.Schema):
    """Strawberry's schema, run by a pipeline of our own, the same on every transport.

    A document that is known to be valid is spared its parsing and validation; every operation is measured, and checked
    for who sends it; plain values are completed in one step; errors leave the process masked.
    """

    def __init__(self, *, introspection: bool, **options: Any) -> None:
        super().__init__(**options)
        self._documents = DocumentCache()
        self._introspection = introspection
        # Checked here once; graphql-core would do it in the first request.
        assert_valid_schema(self._schema)

    @property
    def graphql_schema(self) -> GraphQLSchema:
        """The schema as graphql-core has it."""
        return self._schema

    async def execute(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Any | None = None,
        root_value: Any | None = None,  # noqa: ARG002
        operation_name: str | None = None,
        allowed_operation_types: Iterable[OperationType] | None = None,
        operation_extensions: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> ExecutionResult:
        """Run a query or a mutation.

        Raises `CannotGetOperationTypeError` when there is no operation of the name, and `InvalidOperationTypeError`
        when it is of a type that is not allowed here.
        """
        context = _own(context_value)
        try:
            prepared = await self._prepare(
                query or "", variable_values, context, operation_name, allowed_operation_types
            )
            if isinstance(prepared, list):
                return PreExecutionError(None, self._masked(prepared, context))
            result = await prepared.run()
        except (CannotGetOperationTypeError, InvalidOperationTypeError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a document may bring about is that document's error
            return PreExecutionError(None, self._masked([_as_graphql_error(error)], context))
        return ExecutionResult(result.data, self._masked(result.errors, context) if result.errors else None)

    async def stream(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Any | None = None,
        root_value: Any | None = None,  # noqa: ARG002
        operation_name: str | None = None,
        operation_extensions: dict[str, Any] | None = None,  # noqa: ARG002
        allowed_operation_types: Iterable[OperationType] | None = None,
    ) -> AsyncGenerator[ExecutionResult, None]:
        """Run an operation of any type; its results follow one another. Close what it returns.

        Raises nothing: what is wrong with the document is the only result.
        """
        context = _own(context_value)
        return self._results(query or "", variable_values, context, operation_name, allowed_operation_types)

    async def _results(
        self,
        text: str,
        variables: dict[str, Any] | None,
        context: Context,
        operation_name: str | None,
        allowed: Iterable[OperationType] | None,
    ) -> AsyncGenerator[ExecutionResult, None]:
        has_begun = False
        try:
            prepared = await self._prepare(text, variables, context, operation_name, allowed)
            if isinstance(prepared, list):
                yield PreExecutionError(None, self._masked(prepared, context))
                return
            async with aclosing(prepared.run_all()) as results:
                async for result in results:
                    has_begun = True
                    yield ExecutionResult(result.data, self._masked(result.errors, context) if result.errors else None)
        except Exception as error:  # noqa: BLE001 - whatever a document may bring about is that document's error
            errors = self._masked([_as_graphql_error(error)], context)
            yield ExecutionResult(None, errors) if has_begun else PreExecutionError(None, errors)

    async def _prepare(
        self,
        text: str,
        variables: dict[str, Any] | None,
        context: Context,
        operation_name: str | None,
        allowed: Iterable[OperationType] | None,
    ) -> PlainExecutor | list[GraphQLError]:
        """Return an executor for the operation, or what is wrong with the document."""
        known = self._documents.find(context.tenant_id, text)
        if known is not None:
            document = known
        else:
            try:
                document = KnownDocument(parse(text, max_tokens=context.limits.query_tokens))
            except GraphQLError as error:
                return [error]
        operation = document.operation(operation_name)
        context.record.operation = (operation.name.value if operation.name else operation_name or "")[:100] or None
        if allowed is not None and (kind := _OPERATION_TYPES[operation.operation]) not in allowed:
            raise InvalidOperationTypeError(kind)
        # A WebSocket lives longer than a credential may.
        if context.connection_params is not None:
            await context.authenticate(context.authorization)
        document.check(variables, context.limits)
        if known is None:
            errors = find_errors(self._schema, document.node, introspection=self._introspection)
            if errors:
                return errors
            self._documents.remember(context.tenant_id, text, document)
        return PlainExecutor.prepare(self._schema, document.plans, operation, context, variables)

    def _masked(self, errors: list[GraphQLError], context: Context) -> list[GraphQLError]:
        for error in errors:
            if self.config.disable_field_suggestions:
                hide_suggestions(error)
            mask_error(error, context.record)
            code = (error.extensions or {}).get("code", "INTERNAL")
            context.services.metrics.errors.labels(code).inc()
        return errors


def _own(context: Any) -> Context:
    if not isinstance(context, Context):
        raise TypeError("the schema runs operations of its own endpoint only")
    return context


def _as_graphql_error(error: Exception) -> GraphQLError:
    return error if isinstance(error, GraphQLError) else GraphQLError(str(error), original_error=error)


def create_schema(*, introspection: bool) -> KonstructSchema:
    """Build the schema. Without introspection, error messages suggest no names either."""
    schema = KonstructSchema(
        introspection=introspection,
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[InvalidInputError, IdempotencyConflictError, EmbeddingDimensionMismatchError],
        config=StrawberryConfig(scalar_map=SCALARS, disable_field_suggestions=not introspection),
    )
    _drop_null_defaults(schema.graphql_schema)
    _mark_one_of(schema.graphql_schema)
    call_resolvers_directly(schema.graphql_schema)
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
