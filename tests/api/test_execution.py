"""Answers completed in one step are, byte for byte, those that graphql-core completes by itself."""

import asyncio
import gc
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import strawberry
from graphql import GraphQLError, GraphQLSchema, parse, validate
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.audit import AuditLogger, Escalation, EscalationTarget, EventStatus, LlmCall, ToolCall
from app.audit.live import LiveTrail
from app.audit.writer import EventWriter
from app.auth.api_keys import ApiKeyAuthenticator
from app.auth.backend import Authenticator
from app.database.database import Database
from app.database.embedded import EmbeddedPostgres
from app.embeddings.none import NoProvider
from app.integrity.sealer import Sealer
from app.kb.documents import ChunkInput, DocumentInput
from app.kb.ingest import DocumentIngester
from app.observability.metrics import Metrics
from app.observability.request import RequestRecord
from app.settings import Limits, Settings
from graphql_schema.context import Context, Services
from graphql_schema.documents import KnownDocument
from graphql_schema.execution import PlainExecutor
from graphql_schema.scalars import to_json
from graphql_schema.schema import create_schema
from tests.support.database import DIMENSIONS, TestTenant, embeddings_by, fresh_database, new_tenant
from tests.support.selections import DocumentMaker

SCHEMA = create_schema(introspection=True).graphql_schema
RELAXED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


async def answer(
    schema: GraphQLSchema, text: str, context: object, variables: dict[str, Any] | None, *, in_one_step: bool
) -> tuple[Any, list[Any]]:
    """Execute a valid document one way or the other; return its data as JSON and its errors."""
    document = KnownDocument(parse(text))
    executor = PlainExecutor.prepare(
        schema, document.plans, document.operation(None), context, variables, in_one_step=in_one_step
    )
    assert isinstance(executor, PlainExecutor), executor
    result = await executor.run()
    return to_json(result.data), [error.formatted for error in result.errors or []]


# A schema of every shape, whose values are now and then wrong.


@strawberry.interface
class Named:
    """An abstract type."""

    name: str


@strawberry.type
class Leaf(Named):
    """An object of leaves."""

    count: int | None
    price: Decimal | None
    when: datetime
    tags: list[str]
    grid: list[list[int | None]] | None

    @strawberry.field
    def shouted(self) -> str:
        """A resolver, which is not plain."""
        return self.name.upper()


@strawberry.type
class Branch:
    """An object of objects."""

    leaf: Leaf
    maybe: Leaf | None
    leaves: list[Leaf]
    holes: list[Leaf | None] | None
    named: list[Named]


@strawberry.type
class Root:
    """The query type."""

    @strawberry.field
    def branch(self, info: strawberry.Info) -> Branch | None:
        """The value under test."""
        return info.context  # type: ignore[no-any-return]

    @strawberry.field
    def branches(self, info: strawberry.Info) -> list[Branch]:
        """A list of it."""
        return [info.context, info.context]


SMALL = strawberry.Schema(Root)._schema
NOT_RIGHT = st.none() | st.just(object()) | st.just("text") | st.just(2**40) | st.just(ValueError("bad"))


def mostly(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return values that are right as a rule."""
    return st.integers(0, 15).flatmap(lambda chance: right if chance else NOT_RIGHT)


LEAVES = st.builds(
    Leaf,
    name=mostly(st.text(max_size=3)),
    count=mostly(st.integers(-5, 5) | st.none()),
    price=mostly(st.decimals(allow_nan=False, allow_infinity=False, places=2) | st.none()),
    when=mostly(st.datetimes(timezones=st.just(UTC))),
    tags=mostly(st.lists(mostly(st.text(max_size=2)), max_size=2)),
    grid=mostly(st.none() | st.lists(mostly(st.lists(mostly(st.integers(0, 9) | st.none()), max_size=2)), max_size=2)),
)
BRANCHES = st.builds(
    Branch,
    leaf=mostly(LEAVES),
    maybe=mostly(LEAVES | st.none()),
    leaves=mostly(st.lists(mostly(LEAVES), max_size=2)),
    holes=mostly(st.none() | st.lists(mostly(LEAVES | st.none()), max_size=2)),
    named=mostly(st.lists(mostly(LEAVES), max_size=1)),
)


@given(st.data(), BRANCHES)
@hypothesis_settings(max_examples=120, deadline=None, suppress_health_check=RELAXED)
def test_values_right_and_wrong_are_completed_alike(data: st.DataObject, value: Branch) -> None:
    """For values of every shape, some of them wrong: the same data, the same errors at the same paths."""
    maker = DocumentMaker(SMALL, data.draw)
    text = maker.document(maker.selection("Root", 3))
    if validate(SMALL, parse(text)):
        return
    expected = asyncio.run(answer(SMALL, text, value, None, in_one_step=False))
    assert asyncio.run(answer(SMALL, text, value, None, in_one_step=True)) == expected


# The real schema over a real database.


@dataclass
class Filled:
    """A running set of services, and a tenant with something of everything."""

    runner: asyncio.Runner
    services: Services
    tenant: TestTenant

    def compare(self, text: str, variables: dict[str, Any] | None = None) -> None:
        """Execute both ways and compare."""

        async def both() -> list[Any]:
            answers = []
            for in_one_step in (False, True):
                context = Context(self.services, RequestRecord(), self.tenant.principal)
                data, errors = await answer(SCHEMA, text, context, variables, in_one_step=in_one_step)
                # Without the white space that PostgreSQL puts between the rows; all else as it is, the order too.
                answers.append((json.dumps(json.loads(data), ensure_ascii=False), errors))
            return answers

        slow, fast = self.runner.run(both())
        assert fast == slow


@pytest.fixture(scope="module")
def filled(postgres: EmbeddedPostgres) -> Iterator[Filled]:
    """Events with and without every field, all sealed, and documents with chunks; nobody changes them any more."""
    with asyncio.Runner() as runner:
        settings = runner.run(fresh_database(postgres, sealed=True))
        tenant = runner.run(new_tenant(settings))
        database = Database(settings.database)
        limits = Limits()
        embeddings = embeddings_by(database, NoProvider(DIMENSIONS))
        ingester = DocumentIngester(database, embeddings, limits)
        services = Services(
            database=database,
            writer=EventWriter(database, queued_events=1000, events_per_transaction=1000),
            authenticator=Authenticator(ApiKeyAuthenticator(database, cache_seconds=1)),
            live=LiveTrail(database, database.engine.url),
            embeddings=embeddings,
            ingester=ingester,
            metrics=Metrics(),
            limits=limits,
        )
        runner.run(_fill(AuditLogger(database, tenant.principal, limits), ingester, tenant))
        runner.run(_seal(settings))
        yield Filled(runner, services, tenant)
        runner.run(database.close())


async def _seal(settings: Settings) -> None:
    assert settings.database.sealer_database_url is not None
    await Sealer(settings.database.sealer_database_url).catch_up()


async def _fill(logger: AuditLogger, ingester: DocumentIngester, tenant: TestTenant) -> None:
    first = (await logger.log_llm_call(LlmCall(model="gpt-4o"))).event
    assert first is not None
    odd = 'quote " back \\ tab \t line \n del \x7f \x01 é \U0001f600 </script>\u2028'
    await logger.log_events(
        [
            LlmCall(
                model=odd, input_tokens=0, output_tokens=2**31 - 1, cost_usd=Decimal("1E+2"), status=EventStatus.FAILED,
                error=odd, input_summary=odd, output_summary="", latency_ms=0, parent_event_id=first.id,
                occurred_at=datetime(2026, 1, 31, 12, 0, tzinfo=UTC), user_id=odd, session_id="s", trace_id="t",
                metadata={"big": 10**30, "float": 0.1, "odd": odd, "list": [1, None, {"x": []}], "é": True},
            ),
            ToolCall(tool_name="t", occurred_at=datetime(2026, 1, 31, 12, 0, 0, 120, UTC), parent_event_id=tenant.id),
            Escalation(target=EscalationTarget.QUEUE, reason="r", target_id=odd),
            LlmCall(model="m", cost_usd=Decimal("0.000000000001")),
            LlmCall(model="m", cost_usd=Decimal("0.50")),
        ]
    )  # fmt: skip
    vector = [1.0] + [0.0] * (DIMENSIONS - 1)
    for number in range(2):
        chunks = [ChunkInput(content=f"{odd} {number}", embedding=vector, metadata={"n": number})]
        await ingester.ingest(tenant.id, DocumentInput(external_id=f"d{number}", title=odd, chunks=chunks))


ZEROS = ", ".join(["0"] * (DIMENSIONS - 1))
EVENTS = [
    "", "(first: 2)", "(first: 0)", "(first: 6)", "(last: 2)", "(orderBy: {field: CREATED_AT, direction: ASC})",
    "(filter: {actionType: {eq: LLM_CALL}})", "(filter: {status: {eq: DENIED}})", "(first: 501)", '(after: "x")',
]  # fmt: skip


@given(data=st.data())
@hypothesis_settings(max_examples=120, deadline=None, suppress_health_check=RELAXED)
def test_selections_of_the_real_schema_are_completed_alike(filled: Filled, data: st.DataObject) -> None:
    """For random selections of pages, documents and searches over a real database: the same answer both ways."""
    maker = DocumentMaker(
        SCHEMA,
        data.draw,
        skipped=frozenset({"KbSearchDiagnostics.tookMs"}),
        arguments={"KbDocument.chunks": "(first: 3)"},
    )
    kind, root = data.draw(
        st.sampled_from(
            [("AuditEventConnection", f"auditEvents{arguments}") for arguments in EVENTS]
            + [("KbDocumentConnection", "kbDocuments(first: 5)")]
            + [("KbSearchResult", f"kbSearch(input: {{query: {{vector: [1, {ZEROS}]}}}})")]
        )
    )
    text = maker.document(f"{{ {root} {maker.selection(kind, 4)} }}")
    if not validate(SCHEMA, parse(text)):
        filled.compare(text)


@pytest.mark.parametrize(
    "selection",
    [
        "{ nodes { id id createdAt metadata } nodes { status } }",
        "{ nodes { id } again: nodes { status } }",
        "{ edges { cursor node { id metadata parentEvent { id } } } nodes { id } pageInfo { endCursor } }",
        "{ nodes { " + "a" * 64 + ": id } }",
        "{ nodes { __typename } totalCount { value } }",
        "{ totalCount { isExact } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } }",
        "{ nodes { parentEvent { id parentEvent { id } } } }",
        "{ nodes { ...N } } fragment N on Node { id __typename }",
    ],
)
@pytest.mark.parametrize("arguments", EVENTS)
def test_pages_of_special_shapes_are_completed_alike(filled: Filled, selection: str, arguments: str) -> None:
    """Shapes that random selections rarely have."""
    text = f"{{ auditEvents{arguments} {selection}"
    text = text.replace(" } fragment", " } } fragment") if "fragment" in text else text + " }"
    assert validate(SCHEMA, parse(text)) == []
    filled.compare(text)


@pytest.mark.parametrize(
    "text",
    [
        "{ auditEvents(first: 5) { nodes { id metadata } } }",
        'mutation { logToolCall(input: {toolName: "t"}) { event { id } } }',
    ],
)
def test_a_request_leaves_nothing_to_the_garbage_collector(filled: Filled, text: str) -> None:
    """Objects that refer to each other stay until a search for them holds up all requests; there are none."""
    document = KnownDocument(parse(text))

    async def run() -> None:
        context = Context(filled.services, RequestRecord(), filled.tenant.principal)
        executor = PlainExecutor.prepare(SCHEMA, document.plans, document.operation(None), context, None)
        assert isinstance(executor, PlainExecutor)
        assert not (await executor.run()).errors

    for _ in range(10):
        filled.runner.run(run())
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            filled.runner.run(run())
        found = gc.collect()
    finally:
        gc.enable()
    # The loop itself may leave a few objects, but not one a request.
    assert found < 20


def test_wrong_variables_are_told_both_ways(filled: Filled) -> None:
    """Variables that don't fit leave no executor, whichever way."""
    document = KnownDocument(parse("query ($n: Int!) { auditEvents(first: $n) { nodes { id } } }"))
    errors = PlainExecutor.prepare(SCHEMA, document.plans, document.operation(None), None, {"n": "x"})
    assert isinstance(errors, list)
    assert all(isinstance(error, GraphQLError) for error in errors)
    filled.compare("query ($n: Int!) { auditEvents(first: $n) { nodes { id createdAt } } }", {"n": 2})
