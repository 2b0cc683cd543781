"""The specification's validation rules, walked through a document as one.

graphql-core asks each of its thirty rules at every node whether it has something to say there, and finds the answer
anew for every document. Which rule cares for which kind of node never changes, so it is found out once a kind; then
only those rules are called. The rules themselves, their order and their errors are graphql-core's.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from graphql import (
    BREAK,
    SKIP,
    ASTValidationRule,
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    NoSchemaIntrospectionCustomRule,
    ValidationContext,
    ValidationRule,
    specified_rules,
    validate,
)
from graphql.language.visitor import EnterLeaveVisitor

Rules = tuple[type[ASTValidationRule], ...]
Handler = Callable[..., Any]


def find_errors(schema: GraphQLSchema, document: DocumentNode, *, introspection: bool) -> list[GraphQLError]:
    """Return what is wrong with a document; without introspection, asking for the schema is wrong too."""
    return validate(schema, document, [_WithIntrospection if introspection else _WithoutIntrospection])


@cache
def _handlers(rules: Rules, kind: str) -> list[tuple[int, str | None, str | None]]:
    """Return the rules that care for a kind of node, by position, with the names of their methods."""
    found = []
    for position, rule in enumerate(rules):
        names = [
            next((name for name in (f"{when}_{kind}", when) if hasattr(rule, name)), None)
            for when in ("enter", "leave")
        ]
        if any(names):
            found.append((position, names[0], names[1]))
    return found


class _AllRules(ValidationRule):
    """All rules as one; each skips or ends by itself, as it would alone."""

    rules: Rules

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._members = [rule(context) for rule in self.rules]
        # What each rule skips at present: a node whose end it waits for, or BREAK for the rest of the document.
        self._skipping: list[Any] = [None] * len(self._members)

    def get_enter_leave_for_kind(self, kind: str) -> EnterLeaveVisitor:
        """Return what is called before and after a node of a kind."""
        known = self.enter_leave_map.get(kind)
        if known is None:
            called = [
                (position, *(name and getattr(self._members[position], name) for name in names))
                for position, *names in _handlers(self.rules, kind)
            ]
            known = EnterLeaveVisitor(self._enter(called), self._leave(called)) if called else _NOTHING
            self.enter_leave_map[kind] = known
        return known

    def _enter(self, called: list[Any]) -> Handler:
        skipping = self._skipping

        def enter(node: Any, *at: Any) -> None:
            for position, handler, _ in called:
                if handler and skipping[position] is None:
                    result = handler(node, *at)
                    if result is SKIP or result is False:
                        skipping[position] = node
                    elif result is BREAK or result is True:
                        skipping[position] = BREAK

        return enter

    def _leave(self, called: list[Any]) -> Handler:
        skipping = self._skipping

        def leave(node: Any, *at: Any) -> None:
            for position, _, handler in called:
                if skipping[position] is None:
                    result = handler and handler(node, *at)
                    if result is BREAK or result is True:
                        skipping[position] = BREAK
                elif skipping[position] is node:
                    skipping[position] = None

        return leave


_NOTHING = EnterLeaveVisitor(None, None)


class _WithIntrospection(_AllRules):
    rules = tuple(specified_rules)


class _WithoutIntrospection(_AllRules):
    rules = (*specified_rules, NoSchemaIntrospectionCustomRule)
