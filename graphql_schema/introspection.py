"""Refusing introspection where the schema is not for strangers."""

from graphql import NoSchemaIntrospectionCustomRule
from strawberry.extensions import AddValidationRules


class IntrospectionRefused(AddValidationRules):
    """Adds the rule that refuses `__schema` and `__type`; `__typename` stays."""

    def __init__(self) -> None:
        super().__init__([NoSchemaIntrospectionCustomRule])
