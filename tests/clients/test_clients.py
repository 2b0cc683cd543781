"""Clients that people use: they generate types from our SDL, and ask, write and follow."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from gql import Client, GraphQLRequest
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport
from uuid_utils.compat import uuid7

from tests.support.database import TestTenant
from tests.support.npm import npm
from tests.support.patience import PATIENCE_SECONDS
from tests.support.server import LiveServer

ROOT = Path(__file__).parents[2]
FILTER = {"actionName": {"eq": "gql_lookup"}}


@pytest.fixture(scope="module")
def node_client() -> Iterator[Path]:
    """The Node client's folder, with its packages."""
    with tempfile.TemporaryDirectory(prefix="konstruct-clients-") as name:
        folder = Path(name) / "tests" / "clients"
        shutil.copytree(
            ROOT / "tests" / "clients", folder, ignore=shutil.ignore_patterns("node_modules", "gql", "*.py")
        )
        shutil.copytree(ROOT / "graphql_schema", Path(name) / "graphql_schema")
        npm("ci", folder=folder)
        yield folder


def test_codegen_and_urql(node_client: Path, server: LiveServer, tenant_a: TestTenant) -> None:
    """Codegen says nothing but that it is done, its types hold, and urql asks, writes and follows with them."""
    said = npm("run", "codegen", folder=node_client)
    assert "Generate outputs" in said
    # Not all that codegen complains of has the word "warning".
    assert [line for line in said.splitlines() if line and not line.startswith(("> ", "\u276f ", "\u2714 "))] == []
    npm("run", "check", folder=node_client)
    tool = f"urql-{uuid7().hex}"
    output = npm(
        "run", "--silent", "start",
        folder=node_client, KONSTRUCT_URL=server.graphql_url, KONSTRUCT_KEY=tenant_a.api_key, TOOL_NAME=tool,
    )  # fmt: skip
    answers = json.loads(output)
    event = answers["event"]
    assert (answers["before"], answers["outcome"]) == (0, "RECORDED")
    assert answers["again"] == {"outcome": "DUPLICATE", "id": event["id"]}
    assert (event["metadata"], event["latencyMs"]) == ({"from": "urql"}, 84)
    assert answers["found"] == [{"id": event["id"], "actionName": tool, "status": "SUCCEEDED"}]
    assert answers["followed"] == event["id"]


async def test_gql(server: LiveServer, tenant_a: TestTenant) -> None:
    """The Python client asks, writes and follows, and checks its documents against our schema."""
    headers = {"Authorization": f"Bearer {tenant_a.api_key}"}
    http = HTTPXAsyncTransport(url=server.graphql_url, headers=headers, timeout=PATIENCE_SECONDS)
    client = Client(transport=http, fetch_schema_from_transport=True, execute_timeout=PATIENCE_SECONDS)
    async with client as session:
        mutation = (
            "mutation($input: LogToolCallInput!) { logToolCall(input: $input) { outcome event { id metadata } } }"
        )
        values: dict[str, Any] = {
            "input": {"toolName": "gql_lookup", "idempotencyKey": "gql", "metadata": {"from": "gql"}}
        }
        logged = (await session.execute(GraphQLRequest(mutation, variable_values=values)))["logToolCall"]
        assert (logged["outcome"], logged["event"]["metadata"]) == ("RECORDED", {"from": "gql"})
        again = (await session.execute(GraphQLRequest(mutation, variable_values=values)))["logToolCall"]
        assert (again["outcome"], again["event"]["id"]) == ("DUPLICATE", logged["event"]["id"])
        query = "query($filter: AuditEventFilter) { auditEvents(filter: $filter) { nodes { id } } }"
        found = await session.execute(GraphQLRequest(query, variable_values={"filter": FILTER}))
        assert [node["id"] for node in found["auditEvents"]["nodes"]] == [logged["event"]["id"]]
    socket = WebsocketsTransport(
        url=server.websocket_url,
        init_payload=headers,
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
        connect_timeout=PATIENCE_SECONDS,
        ack_timeout=PATIENCE_SECONDS,
    )
    client = Client(transport=socket, execute_timeout=PATIENCE_SECONDS)
    async with asyncio.timeout(PATIENCE_SECONDS), client as session:
        subscription = (
            "subscription($filter: AuditEventFilter) { auditEventLogged(afterSequence: -1, filter: $filter) { id } }"
        )
        request = GraphQLRequest(subscription, variable_values={"filter": FILTER})
        async with aclosing(session.subscribe(request)) as events:
            event = await anext(events)
        assert event["auditEventLogged"]["id"] == logged["event"]["id"]
