"""The same document again: spared its parsing and validation, and nothing else."""

import pytest

from app.auth.principal import Scope
from tests.support.database import TestTenant
from tests.support.server import GraphQLClient, LiveServer

LIST = "query Again($first: Int) { auditEvents(first: $first) { nodes { id } } }"
TIMES = 4


async def test_each_caller_gets_its_own_answer(client_a: GraphQLClient, client_b: GraphQLClient) -> None:
    """One document sent by two tenants in turn shows each its own events, with the variables of each request."""
    log = 'mutation { logToolCall(input: {toolName: "t"}) { event { id } } }'
    logged = [(await client_a.data(log))["logToolCall"]["event"] for _ in range(2)]
    for _ in range(TIMES):
        both = await client_a.data(LIST, {"first": 2})
        one = await client_a.data(LIST, {"first": 1})
        foreign = await client_b.data(LIST, {"first": 2})
        assert both["auditEvents"]["nodes"] == logged[::-1]
        assert one["auditEvents"]["nodes"] == logged[:0:-1]
        assert foreign["auditEvents"]["nodes"] == []


async def test_scopes_and_variables_are_checked_each_time(server: LiveServer, tenant_a: TestTenant) -> None:
    """A document that was answered is still refused to a key without the scope, and with bad variables."""
    client = GraphQLClient(server.graphql_url, tenant_a.api_key)
    secret, _ = await tenant_a.new_key([Scope.KB_READ])
    weak = GraphQLClient(server.graphql_url, secret)
    for _ in range(TIMES):
        assert (await client.data(LIST, {"first": 1}))["auditEvents"]["nodes"] == []
        assert (await weak.execute(LIST, {"first": 1})).codes == ["FORBIDDEN"]
        assert (await client.execute(LIST, {"first": "x"})).codes == ["BAD_USER_INPUT"]
        assert (await client.execute(LIST, {"first": -1})).codes == ["BAD_USER_INPUT"]
    await client.http.aclose()
    await weak.http.aclose()


@pytest.mark.parametrize("text", ["{ nothing }", "{ viewer { subject", "{ viewer { subject } } { viewer { scopes } }"])
async def test_invalid_document_stays_invalid(client_a: GraphQLClient, text: str) -> None:
    """A refused document is refused as often as it comes."""
    for _ in range(TIMES):
        assert (await client_a.execute(text)).codes == ["BAD_USER_INPUT"]
