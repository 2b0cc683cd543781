"""Validation as one walk: the same errors, in the same order, as graphql-core's own."""

import pytest
from graphql import NoSchemaIntrospectionCustomRule, parse, specified_rules, validate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphql_schema.schema import create_schema
from graphql_schema.validation import find_errors
from tests.support.selections import DocumentMaker

SCHEMA = create_schema(introspection=True).graphql_schema

INVALID = [
    "{ nothing }",
    "{ viewer }",
    "{ viewer { subject { x } } }",
    "{ viewer { subject(x: 1) } } { viewer { subject } }",
    "query A { viewer { subject } } query A { viewer { subject } }",
    "query ($x: Int) { viewer { subject } }",
    "query ($x: Int, $x: Int) { auditEvents(first: $x) { nodes { id } } }",
    "query ($x: String) { auditEvents(first: $x) { nodes { id } } }",
    "query ($x: AuditEvent) { viewer { subject } }",
    "query ($x: Nothing) { viewer { subject } }",
    "{ auditEvents(first: $x) { nodes { id } } }",
    "{ auditEvents(first: 1, first: 2) { nodes { id } } }",
    '{ auditEvents(first: "1", filter: {nothing: 1, status: {eq: X}}) { nodes { id } } }',
    "{ auditEvents(filter: {search: 1, search: 2}) { nodes { id } } }",
    "{ auditEvent { id } kbSearch(input: {limit: 3}) { hits { rank } } }",
    "{ ...F } fragment F on Query { ...F }",
    "{ ...F } fragment F on Query { ...G } fragment G on Query { ...F viewer { subject } }",
    "{ ...Missing } fragment Unused on Query { viewer { subject } }",
    "fragment F on Query { viewer { subject } } fragment F on Query { viewer { subject } } { ...F }",
    "{ viewer { ... on AuditEvent { id } ... on String { x } ...F } } fragment F on UserError { code }",
    "{ a: viewer { subject } a: auditEvents { nodes { id } } }",
    "{ auditEvents { nodes { x: id x: status } } }",
    "{ viewer @include { subject @skip(if: 1) @nothing @include(if: true) @include(if: true) } }",
    "{ viewer @defer { subject } ... @defer { viewer { subject } } }",
    "subscription { a b }",
    "type T { x: Int }",
    "mutation { logEvents(input: {events: [{llmCall: {}, toolCall: null}]}) { recordedCount } }",
    "{ __schema { types { name fields { type { fields { type { fields { name } } } } } } } __type(name: 1) { name } }",
]


def messages(text: str, *, introspection: bool) -> tuple[list[object], list[object]]:
    """Return the errors of both, formatted."""
    document = parse(text)
    rules = specified_rules if introspection else (*specified_rules, NoSchemaIntrospectionCustomRule)
    own = find_errors(SCHEMA, document, introspection=introspection)
    return [error.formatted for error in own], [error.formatted for error in validate(SCHEMA, document, rules)]


@pytest.mark.parametrize("introspection", [True, False])
@pytest.mark.parametrize("text", INVALID)
def test_invalid_documents_have_the_same_errors(text: str, introspection: bool) -> None:
    """One document for each rule, and several that break more than one."""
    own, expected = messages(text, introspection=introspection)
    assert own == expected
    assert expected or "__schema" in text


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_documents_have_the_same_errors(data: st.DataObject) -> None:
    """Random documents, in some of which a name was changed afterwards."""
    maker = DocumentMaker(SCHEMA, data.draw)
    text = maker.document(maker.selection("Query", 3))
    changes = [("id", "id"), ("id", "nothing"), ("on AuditEvent ", "on Viewer "), ("$yes)", "$no)"), ("nodes", "nods")]
    own, expected = messages(text.replace(*data.draw(st.sampled_from(changes))), introspection=False)
    assert own == expected
