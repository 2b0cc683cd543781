"""A mutation's answer shows no more than the credential may read."""

from collections.abc import AsyncIterator

import pytest

from app.auth.principal import Scope
from tests.support.database import TestTenant
from tests.support.server import GraphQLClient, LiveServer

LOG = """
mutation($i: LogToolCallInput!) {
  logToolCall(input: $i) {
    outcome
    event { id }
    userErrors { __typename code ... on IdempotencyConflictError { existing { inputSummary } } }
  }
}
"""
INGEST = """
mutation($d: IngestKbDocumentInput!) {
  ingestKbDocument(input: $d) { outcome document { id chunks { nodes { content } } } userErrors { code } }
}
"""


@pytest.fixture
async def writer(server: LiveServer, tenant_a: TestTenant) -> AsyncIterator[GraphQLClient]:
    """A client of tenant A that may write and not read."""
    secret, _ = await tenant_a.new_key([Scope.AUDIT_WRITE, Scope.KB_WRITE])
    client = GraphQLClient(server.graphql_url, secret)
    yield client
    await client.http.aclose()


async def test_conflict_shows_the_earlier_event_to_readers_only(client_a: GraphQLClient, writer: GraphQLClient) -> None:
    """A write-only key that guesses an idempotency key learns of the conflict, not of the event."""
    await client_a.data(LOG, {"i": {"toolName": "t", "inputSummary": "a secret", "idempotencyKey": "k"}})
    other = {"i": {"toolName": "another", "idempotencyKey": "k"}}
    told = await writer.execute(LOG, other)
    shown = await client_a.data(LOG, other)
    assert "a secret" not in told.text
    assert told.data["logToolCall"] == {
        "outcome": "REJECTED",
        "event": None,
        "userErrors": [{"__typename": "InvalidInputError", "code": "IDEMPOTENCY_CONFLICT"}],
    }
    assert shown["logToolCall"]["userErrors"][0]["existing"] == {"inputSummary": "a secret"}


async def test_ingest_shows_chunks_to_readers_only(client_a: GraphQLClient, writer: GraphQLClient) -> None:
    """A key without KB_READ may ingest, and is refused the chunks that are stored."""
    document = {"d": {"externalId": "x", "title": "X", "body": {"text": "some words"}}}
    refused = await writer.execute(INGEST, document)
    read = await client_a.data(INGEST, document)
    assert refused.codes == ["FORBIDDEN"]
    assert "some words" not in refused.text
    assert read["ingestKbDocument"]["document"]["chunks"]["nodes"] == [{"content": "some words"}]
