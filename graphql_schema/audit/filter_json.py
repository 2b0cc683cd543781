"""The filter of the API as a JSON text, for those who ask without GraphQL."""

import json
from typing import Any

from graphql import GraphQLSchema, OperationDefinitionNode, parse

from app.audit.filter import AuditEventFilter
from app.errors import InvalidInput
from graphql_schema.audit.inputs import AuditEventFilterInput
from graphql_schema.http import MalformedRequest, decode_json
from graphql_schema.resolvers import input_converter
from graphql_schema.variables import VariableCoercer

_EXAMPLE = '{"status": {"eq": "FAILED"}}'


class FilterReader:
    """Reads filters with the schema's own types, so that JSON means what a GraphQL variable would."""

    def __init__(self, schema: GraphQLSchema) -> None:
        operation = parse("query ($filter: AuditEventFilter) { __typename }").definitions[0]
        if not isinstance(operation, OperationDefinitionNode):
            raise TypeError("the operation is one")
        self._coercer = VariableCoercer(schema, operation)
        self._convert = input_converter(schema, AuditEventFilterInput)

    def read(self, text: str) -> AuditEventFilter:
        """Return the filter; raise `InvalidInput` when the text is not a JSON object that is one."""
        try:
            given: Any = decode_json(text)
        except MalformedRequest as error:
            raise InvalidInput(("filter",), f"must be JSON, such as {_EXAMPLE}: {error.message}") from None
        if not isinstance(given, dict):
            raise InvalidInput(("filter",), f"must be a JSON object, such as {_EXAMPLE}, got {json.dumps(given)[:40]}")
        values = self._coercer.coerce({"filter": given})
        if isinstance(values, list):
            raise InvalidInput(("filter",), values[0].message)
        found: AuditEventFilterInput = self._convert(values.coerced["filter"])
        return found.to_filter()
