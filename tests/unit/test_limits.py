"""How the cost of a document is counted."""

import time
from typing import Any

import pytest
from graphql import parse

from app.errors import QueryTooComplex
from app.settings import Limits
from graphql_schema.limits import check_document

LIMITS = Limits(query_cost=50_000, query_depth=20, query_root_fields=30)


def check(text: str, variables: dict[str, Any] | None = None, limits: Limits = LIMITS) -> None:
    """Measure a document."""
    check_document(parse(text), variables, limits)


def cost_limit(cost: int) -> Limits:
    """Limits that allow a given cost."""
    return LIMITS.model_copy(update={"query_cost": cost})


@pytest.mark.parametrize(
    ("text", "variables", "cost"),
    [
        ("{ viewer { tenantName } }", None, 12),
        ("{ a: viewer { tenantName } b: viewer { tenantName } }", None, 24),
        ("{ auditEvents(first: 7) { nodes { id } } }", None, 11 + 7 * 2),
        ("{ auditEvents(last: 7) { nodes { id } } }", None, 11 + 7 * 2),
        ("{ auditEvents { nodes { id } } }", None, 11 + 50 * 2),
        ("query($n: Int) { auditEvents(first: $n) { nodes { id } } }", {"n": 7}, 11 + 7 * 2),
        ("{ auditEvents(first: 0) { nodes { id } } }", None, 11 + 2),
        ("{ ...F } fragment F on Query { viewer { tenantName } }", None, 12),
        ("{ ... on Query { viewer { tenantName } } }", None, 12),
        ("{ kbDocuments(first: 3) { nodes { chunks(first: 4) { nodes { id } } } } }", None, 11 + 3 * (1 + 1 + 4 * 2)),
        ("query($n: Int = 500) { auditEvents(first: $n) { nodes { id } } }", {}, 11 + 500 * 2),
        ("query($n: Int = 500) { auditEvents(first: $n) { nodes { id } } }", {"n": 7}, 11 + 7 * 2),
    ],
)
def test_cost_is_counted_exactly(text: str, variables: dict[str, Any] | None, cost: int) -> None:
    """A document passes at exactly its cost and is refused one below."""
    check(text, variables, cost_limit(cost))
    with pytest.raises(QueryTooComplex, match=f"asks for {cost} fields"):
        check(text, variables, cost_limit(cost - 1))


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ('{ kbSearch(input: {query: {text: "x"}, limit: 100}) { hits { rank } } }', None),
        ("query($i: KbSearchInput!) { kbSearch(input: $i) { hits { rank } } }", {"i": {"limit": 100}}),
        ('query($n: Int) { kbSearch(input: {query: {text: "x"}, limit: $n}) { hits { rank } } }', {"n": 100}),
    ],
)
def test_search_counts_the_hits_that_it_asks_for(text: str, variables: dict[str, Any] | None) -> None:
    """The cost of a search grows with its limit."""
    with pytest.raises(QueryTooComplex):
        check(text, variables, cost_limit(100))


def test_root_fields_are_bounded() -> None:
    """Thirty root fields pass, thirty-one do not, also when fragments hold them."""
    check("{" + " ".join(f"a{n}: viewer {{ subject }}" for n in range(30)) + "}")
    with pytest.raises(QueryTooComplex, match="31 root fields, the limit is 30"):
        check("{" + " ".join(f"a{n}: viewer {{ subject }}" for n in range(31)) + "}")
    fragment = "fragment F on Query {" + " ".join(f"a{n}: viewer {{ subject }}" for n in range(16)) + "}"
    with pytest.raises(QueryTooComplex, match="32 root fields"):
        check("{ ...F ...F }" + fragment)


def test_depth_is_bounded() -> None:
    """Twenty levels pass, twenty-one do not."""
    check("{ a " * 20 + "}" * 20)
    with pytest.raises(QueryTooComplex, match="21 levels of nesting, the limit is 20"):
        check("{ a " * 21 + "}" * 21)


def test_exploding_fragments_are_measured_at_once() -> None:
    """Fragments that each spread the next one twice, for a billion billion fields, are refused without expanding."""
    levels = 60
    text = "{ ...F0 }" + "".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(levels))
    started = time.perf_counter()
    with pytest.raises(QueryTooComplex, match="far more"):
        check(text + f"fragment F{levels} on Query {{ viewer {{ subject }} }}")
    assert time.perf_counter() - started < 30


def test_unused_fragments_and_other_operations_count() -> None:
    """What no operation uses is validated too, so it is bounded too."""
    big = "auditEvents(first: 500) { nodes { parentEvent { parentEvent { id error status } } } }" * 30
    with pytest.raises(QueryTooComplex):
        check("{ viewer { subject } } fragment F on Query {" + big + "}")
    with pytest.raises(QueryTooComplex):
        check("query A { viewer { subject } } query B {" + big + "}")


def test_cyclic_fragments_end() -> None:
    """Fragments that spread each other are left to validation."""
    check("{ ...A } fragment A on Query { ...B } fragment B on Query { ...A viewer { subject } }")
