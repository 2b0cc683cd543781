"""Executing an operation: plain values are completed in one step.

graphql-core completes every field of every object of a list on its own: a page of 50 events of 9 fields is 450 calls
through a dozen layers. Most of what clients select is plain: attributes that need no resolver. For a selection of plain
fields only, a *completer* is compiled once (and kept beside the cached document); it builds an object's answer straight
from its attributes, or straight from a database row where the resolver returned rows.

A completer knows the happy path only. Whenever it fails graphql-core completes the same value again from the start,
with its errors, paths and nulls. It does so too for every selection that is not plain: with a directive, a field with a
resolver or arguments, or an object of an abstract type.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any, cast

from graphql import (
    ExecutionResult,
    GraphQLError,
    GraphQLField,
    GraphQLList,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    located_error,
)
from graphql.execution import Executor, default_field_resolver, default_type_resolver
from graphql.execution.values import VariableValues
from graphql.pyutils import Path
from strawberry.execution.is_awaitable import optimized_is_awaitable

from graphql_schema.completers import Completer, Details
from graphql_schema.http import RoundedVariables
from graphql_schema.plans import DocumentPlans
from graphql_schema.rows import Rows, WrittenList


class PlainExecutor(Executor[Any]):
    """graphql-core's executor, which leaves plain values to completers."""

    @classmethod
    def prepare(
        cls,
        schema: GraphQLSchema,
        plans: DocumentPlans,
        operation: OperationDefinitionNode,
        context: object,
        variables: dict[str, Any] | None,
        *,
        in_one_step: bool = True,
    ) -> "PlainExecutor | list[GraphQLError]":
        """Return the executor of a valid document's operation, or what is wrong with the variables.

        With `in_one_step=False` graphql-core completes everything by itself.
        """
        coercer = plans.variables(schema, operation)
        if coercer.needs_exact_numbers and isinstance(variables, RoundedVariables):
            try:
                variables = variables.exact()
            except RecursionError:
                # The body was read by a parser that goes deeper.
                return [GraphQLError("the variables are nested too deeply")]
        values = coercer.coerce(variables)
        if isinstance(values, list):
            return values
        is_awaitable: Any = optimized_is_awaitable
        return cls(
            schema, plans.fragment_definitions, plans.fragments, plans if in_one_step else None, context,
            operation, values, default_field_resolver, default_type_resolver, default_field_resolver,
            is_awaitable=is_awaitable,
        )  # fmt: skip

    async def run(self) -> ExecutionResult:
        """Run the operation to its end."""
        try:
            plans = self.root_value
            if isinstance(plans, DocumentPlans):
                root = plans.single_root(self.schema, self.operation)
                if root is not None:
                    return await self._run_single(*root)
            result: Any = self.execute_operation()
            if self.is_awaitable(result):
                result = await result
            finished: ExecutionResult = result
            return finished
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Refer to itself no more: the garbage collector would have to find it, with all that it holds."""
        helpers: Any = None
        self.async_helpers = helpers

    async def run_all(self) -> AsyncGenerator[ExecutionResult, None]:
        """Run the operation; a subscription has a result for each value of its field, any other one result."""
        if self.operation.operation is not OperationType.SUBSCRIPTION:
            yield await self.run()
            return
        plans = self.root_value
        root = plans.single_root(self.schema, self.operation) if isinstance(plans, DocumentPlans) else None
        if root is None:
            raise GraphQLError("a subscription must select one field, without @skip and @include")
        key, root_type, field, details, read_arguments = root
        path = Path(None, key, root_type.name)
        nodes = [detail.node for detail in details]
        info = self.build_resolve_info(field, nodes, root_type, path)
        try:
            arguments = read_arguments(self.variable_values)
            async with aclosing(cast("Any", field.subscribe)(None, info, **arguments)) as values:
                async for value in values:
                    executor = self.build_per_event_executor(None)
                    executor.root_value = plans
                    yield await cast("PlainExecutor", executor)._run_single(*root, source=value)  # noqa: SLF001
        except Exception as error:
            raise located_error(error, nodes, path.as_list()) from error
        finally:
            self._let_go()

    async def _run_single(
        self,
        key: str,
        root_type: GraphQLObjectType,
        field: GraphQLField,
        details: Details,
        read_arguments: Callable[[VariableValues], dict[str, Any]],
        source: object = None,
    ) -> ExecutionResult:
        """Run an operation of one root field, as most are, without the machinery that runs several at once."""
        path = Path(None, key, root_type.name)
        nodes = [detail.node for detail in details]
        info = self.build_resolve_info(field, nodes, root_type, path)
        try:
            try:
                arguments = read_arguments(self.variable_values)
                result = cast("Any", field.resolve)(source, info, **arguments)
                if self.is_awaitable(result):
                    result = await result
                completed = self.complete_value(field.type, details, info, path, result, None)
                if self.is_awaitable(completed):
                    completed = await completed
            except Exception as error:  # noqa: BLE001 - it becomes the field's error
                self.handle_field_error(error, field.type, details, path)
                completed = None
        except GraphQLError as error:
            # The field may not be null, so that the whole answer is.
            self.collected_errors.add(error, None)
            return ExecutionResult(None, self.collected_errors.errors)
        return ExecutionResult({key: completed}, self.collected_errors.errors or None)

    def complete_list_value(
        self,
        return_type: GraphQLList[GraphQLOutputType],
        field_details_list: Details,
        info: Any,
        path: Any,
        result: Any,
        position_context: Any,
    ) -> Any:
        """Complete a list in one step where that is possible."""
        if isinstance(result, WrittenList):
            return result.answer
        if isinstance(result, list):
            completer = self._completer(return_type, field_details_list)
            if completer is not None:
                with suppress(Exception):  # graphql-core says what is wrong, below
                    return completer(result)
            if isinstance(result, Rows):
                result = result.objects()
        return super().complete_list_value(return_type, field_details_list, info, path, result, position_context)

    def complete_object_value(
        self,
        return_type: GraphQLObjectType,
        field_details_list: Details,
        info: Any,
        path: Any,
        result: Any,
        position_context: Any,
    ) -> Any:
        """Complete an object in one step where that is possible."""
        completer = self._completer(return_type, field_details_list)
        if completer is not None:
            with suppress(Exception):  # graphql-core says what is wrong, below
                return completer(result)
        return super().complete_object_value(return_type, field_details_list, info, path, result, position_context)

    def _completer(self, value_type: GraphQLOutputType, details: Details) -> Completer | None:
        plans = self.root_value
        return plans.completer(self.schema, value_type, details) if isinstance(plans, DocumentPlans) else None
