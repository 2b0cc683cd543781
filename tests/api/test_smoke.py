"""The main job, end to end over real HTTP."""

from tests.support.server import GraphQLClient

LOG = """
mutation Log($input: LogLlmCallInput!) {
  logLlmCall(input: $input) { outcome event { id actionName inputSummary metadata } userErrors { code message path } }
}
"""


async def test_logged_event_is_listed_for_its_tenant_only(client_a: GraphQLClient, client_b: GraphQLClient) -> None:
    """An event logged by one tenant is in its list and in nobody else's."""
    logged = await client_a.data(LOG, {"input": {"model": "gpt-4o", "inputSummary": "hi", "metadata": {"a": 1}}})
    event = logged["logLlmCall"]["event"]
    listed = await client_a.data("{ auditEvents { nodes { id actionName inputSummary metadata } } }")
    foreign = await client_b.data("{ auditEvents { nodes { id } } }")
    assert [event] == listed["auditEvents"]["nodes"]
    assert foreign["auditEvents"]["nodes"] == []
