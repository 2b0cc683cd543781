"""Every kind of value through the API: kept exactly, or refused with its field's name and nothing stored."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    get_named_type,
    is_composite_type,
    is_required_argument,
    is_required_input_field,
)

from app.settings import Settings
from graphql_schema.schema import print_sdl
from tests.support.database import TestTenant, connect, new_tenant, stored_events
from tests.support.server import Answer, GraphQLClient, LiveServer, live_server

EVENT = """
id actionType actionName status error agentId userId sessionId traceId inputSummary outputSummary latencyMs metadata
inputTokens outputTokens costUsd createdAt occurredAt submittedBy parentEvent { id }
"""
PAYLOAD = f"outcome event {{ {EVENT} }} userErrors {{ code message path index }}"
LOGS = {
    "logLlmCall": "mutation($input: LogLlmCallInput!) { logLlmCall(input: $input) { " + PAYLOAD + " } }",
    "logToolCall": "mutation($input: LogToolCallInput!) { logToolCall(input: $input) { " + PAYLOAD + " } }",
    "logEscalation": "mutation($input: LogEscalationInput!) { logEscalation(input: $input) { " + PAYLOAD + " } }",
}
REQUIRED: dict[str, dict[str, Any]] = {
    "logLlmCall": {"model": "gpt-4o"},
    "logToolCall": {"toolName": "issue_refund"},
    "logEscalation": {"target": "HUMAN", "reason": "unsure"},
}
LOG_EVENTS = """
mutation($input: LogEventsInput!) { logEvents(input: $input) {
  results { outcome event { id actionName metadata } userErrors { code message path index } }
  recordedCount duplicateCount rejectedCount userErrors { code message path index }
} }
"""
INGEST = """
mutation($input: IngestKbDocumentInput!) { ingestKbDocument(input: $input) {
  outcome document { id externalId title metadata chunks { nodes { content metadata } } }
  userErrors { code message path index }
} }
"""
LIST = "query($filter: AuditEventFilter) { auditEvents(filter: $filter) { nodes { " + EVENT + " } } }"
MAX_INT = 2**31 - 1
NUL, SURROGATE = "a\x00b", "a\ud800b"


async def log(client: GraphQLClient, mutation: str = "logLlmCall", **fields: Any) -> dict[str, Any]:
    """Log one event; return the payload."""
    data = await client.data(LOGS[mutation], {"input": REQUIRED[mutation] | fields})
    return dict(data[mutation])


async def logged(client: GraphQLClient, mutation: str = "logLlmCall", /, **fields: Any) -> dict[str, Any]:
    """Log one event that must be recorded; return the event."""
    payload = await log(client, mutation, **fields)
    assert payload["outcome"] == "RECORDED", payload
    assert payload["userErrors"] == []
    return dict(payload["event"])


async def assert_rejected(client: GraphQLClient, path: list[str], **fields: Any) -> str:
    """Log one event that must be rejected for one field; return the message."""
    mutation = fields.pop("mutation", "logLlmCall")
    payload = await log(client, mutation, **fields)
    assert payload["outcome"] == "REJECTED", payload
    assert payload["event"] is None
    [error] = payload["userErrors"]
    assert (error["path"], error["index"]) == (path, None)
    assert error["message"].startswith(".".join(path) + ": ")
    assert error["code"] in {"INVALID_INPUT", "PAYLOAD_TOO_LARGE"}
    return f"{error['code']} {error['message']}"


def assert_bad_input(answer: Answer, field: str) -> None:
    """The request was refused for one field, by a client error that names it."""
    assert answer.status in {200, 400}
    assert set(answer.codes) == {"BAD_USER_INPUT"}, answer.text
    assert all(field in error["message"] for error in answer.body["errors"]), answer.text
    assert not any(word in answer.text.lower() for word in ("asyncpg", "sqlalchemy", "traceback", "select "))


@pytest.fixture(scope="module")
async def refused_tenant(settings: Settings) -> TestTenant:
    """A tenant that only sends what is refused, so that it never has a row."""
    return await new_tenant(settings, "Refused")


@pytest.fixture(scope="module")
async def refusing(server: LiveServer, refused_tenant: TestTenant) -> AsyncIterator[GraphQLClient]:
    """Its client."""
    client = GraphQLClient(server.graphql_url, refused_tenant.api_key)
    yield client
    await client.http.aclose()


async def assert_empty(settings: Settings, tenant: TestTenant) -> None:
    """Nothing was stored."""
    assert await stored_events(settings, tenant.id) == []
    async with connect(settings.database.database_url, tenant.id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM kb_documents") == 0
        assert await connection.fetchval("SELECT count(*) FROM kb_chunks") == 0


# ---------------------------------------------------------------- time


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-01T12:00:00",
        "2026-01-01",
        "2026-W01-1",
        "2026-01-01 12:00:00Z",
        "2026-02-30T12:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "now",
        "",
        1767268800,
    ],
)
async def test_time_without_an_offset_is_refused(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, value: object
) -> None:
    """A time that names no instant is a client error, in inputs and in filters."""
    sent = await refusing.execute(LOGS["logLlmCall"], {"input": {"model": "m", "occurredAt": value}})
    assert_bad_input(sent, "occurredAt")
    for operator in ("gte", "lt"):
        filtered = await refusing.execute(LIST, {"filter": {"createdAt": {operator: value}}})
        assert_bad_input(filtered, operator)
    await assert_empty(settings, refused_tenant)


@pytest.mark.parametrize(
    "text",
    ["2026-01-01T12:00:00Z", "2026-01-01T17:30:00+05:30", "2026-01-01T12:00:00-00:00", "2026-01-01t12:00:00.000000z"],
)
async def test_same_instant_is_stored_whatever_its_offset(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant, text: str
) -> None:
    """Spellings of one instant store the same time and come back in UTC."""
    event = await logged(client_a, occurredAt=text)
    [row] = await stored_events(settings, tenant_a.id)
    assert event["occurredAt"] == "2026-01-01T12:00:00.000000Z"
    assert row["occurred_at"] == datetime(2026, 1, 1, 12, tzinfo=UTC)


async def test_host_zone_changes_nothing(settings: Settings, tenant_a: TestTenant, tmp_path: Path) -> None:
    """On a host in New York times are the same and a time without an offset is still refused."""
    with live_server(settings, tmp_path, TZ="America/New_York") as server:
        client = GraphQLClient(server.graphql_url, tenant_a.api_key)
        refused = await client.execute(
            LOGS["logLlmCall"], {"input": {"model": "m", "occurredAt": "2026-01-01T12:00:00"}}
        )
        assert_bad_input(refused, "occurredAt")
        assert await stored_events(settings, tenant_a.id) == []
        event = await logged(client, occurredAt="2026-01-01T12:00:00.5Z")
        after = await client.data(LIST, {"filter": {"createdAt": {"gte": event["createdAt"]}}})
        before = await client.data(LIST, {"filter": {"createdAt": {"lt": event["createdAt"]}}})
        await client.http.aclose()
    [row] = await stored_events(settings, tenant_a.id)
    assert row["occurred_at"] == datetime(2026, 1, 1, 12, 0, 0, 500_000, UTC)
    assert event["occurredAt"] == "2026-01-01T12:00:00.500000Z"
    assert datetime.fromisoformat(event["createdAt"]) == row["created_at"]
    assert [item["id"] for item in after["auditEvents"]["nodes"]] == [event["id"]]
    assert before["auditEvents"]["nodes"] == []


async def test_time_of_record_is_the_database_clock(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """The time of record is the server's, whatever time the client claims."""
    async with connect(settings.database.database_url) as connection:
        before = await connection.fetchval("SELECT clock_timestamp()")
        event = await logged(client_a, occurredAt="2020-01-01T00:00:00Z")
        after = await connection.fetchval("SELECT clock_timestamp()")
    assert before <= datetime.fromisoformat(event["createdAt"]) <= after
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event["createdAt"])


@pytest.mark.parametrize("mutation", sorted(LOGS))
@pytest.mark.parametrize(
    "field", ["createdAt", "id", "submittedBy", "tenantId", "tenant_id", "actionType", "xid", "sequence"]
)
async def test_client_does_not_choose_what_the_server_decides(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, mutation: str, field: str
) -> None:
    """There is no input for the time of record, the id, the author or the tenant."""
    sent = REQUIRED[mutation] | {field: "2020-01-01T00:00:00Z"}
    single = await refusing.execute(LOGS[mutation], {"input": sent})
    kind = {"logLlmCall": "llmCall", "logToolCall": "toolCall", "logEscalation": "escalation"}[mutation]
    batch = await refusing.execute(LOG_EVENTS, {"input": {"events": [{kind: sent}]}})
    assert_bad_input(single, field)
    assert_bad_input(batch, field)
    await assert_empty(settings, refused_tenant)


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("field", ["latencyMs", "inputTokens", "outputTokens"])
async def test_integers_keep_their_extremes(client_a: GraphQLClient, field: str) -> None:
    """Zero and the greatest 32-bit integer are stored and returned."""
    stored = [await logged(client_a, "logLlmCall", **{field: value}) for value in (0, MAX_INT)]
    assert [event[field] for event in stored] == [0, MAX_INT]


@pytest.mark.parametrize("field", ["latencyMs", "inputTokens", "outputTokens"])
@pytest.mark.parametrize("value", [MAX_INT + 1, -MAX_INT - 2, 10**30, 1.5, "5", True, [5], {}])
async def test_what_is_no_int_is_refused(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, field: str, value: object
) -> None:
    """An integer beyond 32 bits, or another kind of value, is a client error."""
    answer = await refusing.execute(LOGS["logLlmCall"], {"input": {"model": "m", field: value}})
    if value == [5]:
        assert set(answer.codes) == {"BAD_USER_INPUT"}
    else:
        assert_bad_input(answer, field)
    await assert_empty(settings, refused_tenant)


@pytest.mark.parametrize("field", ["latencyMs", "inputTokens", "outputTokens"])
async def test_negative_count_is_rejected(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, field: str
) -> None:
    """A duration and a number of tokens can't be negative."""
    message = await assert_rejected(refusing, [field], **{field: -1})
    assert message == f"INVALID_INPUT {field}: must be between 0 and {MAX_INT}, got -1"
    await assert_empty(settings, refused_tenant)


@pytest.mark.parametrize(
    "literal",
    ["9" * 5000, "-" + "9" * 5000, "1e400", "1e-400", "99999999999999999999", '"x"', "true", "[]", "{}", "X"],
)
async def test_literal_of_a_wrong_kind_is_refused(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, literal: str
) -> None:
    """Literals in the document are checked as variables are, however many digits they have."""
    answer = await refusing.execute(
        'mutation { logLlmCall(input: {model: "m", latencyMs: ' + literal + "}) { outcome } }"
    )
    assert answer.status == 200
    assert set(answer.codes) == {"BAD_USER_INPUT"}, answer.text
    await assert_empty(settings, refused_tenant)


async def test_literal_integer_of_thousands_of_digits_in_metadata_is_exact_or_rejected(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant
) -> None:
    """A literal integer beyond what Python converts is rejected under its field, never stored as something else."""
    digits = "7" * 5000
    data = await refusing.data(
        f'mutation {{ logLlmCall(input: {{model: "m", metadata: {{a: {digits}}}}}) {{ {PAYLOAD} }} }}'
    )
    assert data["logLlmCall"]["outcome"] == "REJECTED"
    assert [error["path"] for error in data["logLlmCall"]["userErrors"]] == [["metadata", "a"]]
    await assert_empty(settings, refused_tenant)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("field", ["metadata", "latencyMs", "costUsd"])
async def test_body_with_a_constant_that_is_no_json_is_refused(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, constant: str, field: str
) -> None:
    """NaN and Infinity are not JSON: the body is refused."""
    value = f'{{"x":{constant}}}' if field == "metadata" else constant
    body = (
        json.dumps({"query": LOGS["logLlmCall"]})[:-1]
        + f', "variables": {{"input": {{"model": "m", "{field}": {value}}}}}}}'
    )
    answer = await refusing.post(body)
    assert (answer.status, answer.codes) == (400, ["BAD_USER_INPUT"])
    await assert_empty(settings, refused_tenant)


@pytest.mark.parametrize("number", ["1e400", "-1e400"])
async def test_number_beyond_all_floats_is_refused(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, number: str
) -> None:
    """A number that no float can hold does not become Infinity, in variables and in literals."""
    for value, field in ((f'{{"x":{number}}}', "metadata"), (number, "latencyMs"), (number, "costUsd")):
        body = json.dumps({"query": LOGS["logLlmCall"]})[:-1] + (
            f', "variables": {{"input": {{"model": "m", "{field}": {value}}}}}}}'
        )
        answer = await refusing.post(body)
        literal = value.replace('"', "")
        inline = await refusing.execute(
            f'mutation {{ logLlmCall(input: {{model: "m", {field}: {literal}}}) {{ {PAYLOAD} }} }}'
        )
        for refused in (answer, inline):
            if "errors" in refused.body:
                assert refused.codes == ["BAD_USER_INPUT"]
            else:
                [error] = refused.data["logLlmCall"]["userErrors"]
                assert (error["code"], error["path"][0]) == ("INVALID_INPUT", field)
    await assert_empty(settings, refused_tenant)


@pytest.mark.parametrize(
    ("sent", "returned"),
    [
        ("0.1", "0.1"),
        (0.1, "0.1"),
        (0, "0"),
        (3, "3"),
        ("123456789.123456789012", "123456789.123456789012"),
        ("0.000000000001", "0.000000000001"),
        ("999999999.999999999999", "999999999.999999999999"),
        ("1e-12", "0.000000000001"),
    ],
)
async def test_cost_is_kept_exactly(client_a: GraphQLClient, sent: object, returned: str) -> None:
    """An amount of money comes back digit for digit."""
    event = await logged(client_a, costUsd=sent)
    [listed] = (await client_a.data(LIST))["auditEvents"]["nodes"]
    assert event["costUsd"] == returned
    assert listed == event


async def test_cost_sent_as_a_number_is_exact_too(client_a: GraphQLClient) -> None:
    """A JSON number and a literal keep the digits that were written."""
    body = json.dumps({"query": LOGS["logLlmCall"]})[:-1] + (
        ', "variables": {"input": {"model": "m", "costUsd": 123456789.123456789012}}}'
    )
    literal = await client_a.data(
        'mutation { logLlmCall(input: {model: "m", costUsd: 123456789.123456789012}) { event { costUsd } } }'
    )
    variable = (await client_a.post(body)).data
    assert literal["logLlmCall"]["event"]["costUsd"] == "123456789.123456789012"
    assert variable["logLlmCall"]["event"]["costUsd"] == "123456789.123456789012"


@pytest.mark.parametrize("value", ["-0.01", -1, "1000000000", "1e999999", "0.1234567890123", "1e-999999"])
async def test_impossible_cost_is_rejected(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, value: object
) -> None:
    """A negative cost, a thousand million, or more than 12 decimals is rejected."""
    await assert_rejected(refusing, ["costUsd"], costUsd=value)
    await assert_empty(settings, refused_tenant)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "x", "", True, [], {}])
async def test_what_is_no_decimal_is_refused(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, value: object
) -> None:
    """What is no finite number is a client error, in inputs and in filters."""
    sent = await refusing.execute(LOGS["logLlmCall"], {"input": {"model": "m", "costUsd": value}})
    assert_bad_input(sent, "costUsd")
    filtered = await refusing.execute(LIST, {"filter": {"costUsd": {"gt": value}}})
    assert_bad_input(filtered, "gt")
    await assert_empty(settings, refused_tenant)


@pytest.mark.parametrize("value", ["1e999999", "-1e999999", "1e-999999", "1e200000", "1e131072"])
async def test_absurd_decimal_in_a_filter_is_compared_or_refused(client_a: GraphQLClient, value: str) -> None:
    """A number beyond any amount is compared as the number it is, or is a client error."""
    event = await logged(client_a, costUsd="1")
    answer = await client_a.execute(LIST, {"filter": {"costUsd": {"gt": value}}})
    if "errors" in answer.body:
        assert_bad_input(answer, "costUsd")
    else:
        matching = [event["id"]] if Decimal(value) < 1 else []
        assert [item["id"] for item in answer.data["auditEvents"]["nodes"]] == matching


async def test_big_integers_in_metadata_keep_every_digit(client_a: GraphQLClient) -> None:
    """Integers beyond 64 bits come back digit for digit; other numbers are numerically equal."""
    sent = (
        '{"a":750727362669608961,"b":18446744073709551616,"c":12345678901234567890123,"d":0.1,"e":1e22,"f":-0.0,'
        '"g":[9007199254740993]}'
    )
    body = json.dumps({"query": LOGS["logLlmCall"]})[:-1] + (
        ', "variables": {"input": {"model": "m", "metadata": ' + sent + "}}}"
    )
    answers = [await client_a.post(body), await client_a.execute(LIST)]
    for answer in answers:
        assert "errors" not in answer.body
        for digits in ("750727362669608961", "18446744073709551616", "12345678901234567890123", "9007199254740993"):
            assert re.search(rf"[:\[] ?{digits}[,}}\]]", answer.text), answer.text
    assert answers[0].data["logLlmCall"]["event"]["metadata"] == json.loads(sent)


# ---------------------------------------------------------------- text

TEXTS = {
    "logLlmCall": (
        "model",
        "userId",
        "sessionId",
        "traceId",
        "idempotencyKey",
        "inputSummary",
        "outputSummary",
        "error",
    ),
    "logToolCall": ("toolName", "userId", "sessionId", "traceId", "idempotencyKey", "inputSummary", "error"),
    "logEscalation": ("reason", "targetId", "userId", "idempotencyKey", "outputSummary", "error"),
}


@pytest.mark.parametrize(("bad", "reason"), [(NUL, "U+0000"), (SURROGATE, "lone surrogates")])
@pytest.mark.parametrize(("mutation", "field"), [(name, field) for name, fields in TEXTS.items() for field in fields])
async def test_unstorable_text_is_rejected(
    refusing: GraphQLClient,
    settings: Settings,
    refused_tenant: TestTenant,
    mutation: str,
    field: str,
    bad: str,
    reason: str,
) -> None:
    """U+0000 and lone surrogates are rejected in every text, with the field's name."""
    message = await assert_rejected(refusing, [field], mutation=mutation, **{field: bad})
    assert reason in message
    await assert_empty(settings, refused_tenant)


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ({"k": NUL}, ["metadata", "k"]),
        ({NUL: 1}, ["metadata", r"a\x00b"]),
        ({"list": ["ok", {"deep": NUL}]}, ["metadata", "list", "1", "deep"]),
        ({"k": SURROGATE}, ["metadata", "k"]),
        ({SURROGATE: 1}, ["metadata", r"a\ud800b"]),
        ({"o": {SURROGATE: 1}}, ["metadata", "o", r"a\ud800b"]),
        ({"some_key": {"other_key": NUL}}, ["metadata", "some_key", "other_key"]),
    ],
)
async def test_unstorable_text_in_metadata_is_rejected(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, metadata: dict[str, Any], path: list[str]
) -> None:
    """In metadata the path leads to the value or the key, however deep, spelt as it was sent."""
    await assert_rejected(refusing, path, metadata=metadata)
    await assert_empty(settings, refused_tenant)


async def test_bad_text_rejects_only_its_item_of_a_batch(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """The other items of a batch are recorded."""
    items = [{"llmCall": {"model": "m1"}}, {"toolCall": {"toolName": NUL}}, {"llmCall": {"model": "m3"}}]
    payload = (await client_a.data(LOG_EVENTS, {"input": {"events": items}}))["logEvents"]
    stored = await stored_events(settings, tenant_a.id)
    assert [item["outcome"] for item in payload["results"]] == ["RECORDED", "REJECTED", "RECORDED"]
    assert (payload["recordedCount"], payload["rejectedCount"]) == (2, 1)
    assert [(error["index"], error["path"]) for error in payload["userErrors"]] == [(1, ["toolName"])]
    assert sorted(row["action_name"] for row in stored) == ["m1", "m3"]


@pytest.mark.parametrize("bad", [NUL, SURROGATE])
@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda bad: {"externalId": bad}, ["externalId"]),
        (lambda bad: {"title": bad}, ["title"]),
        (lambda bad: {"sourceUri": bad}, ["sourceUri"]),
        (lambda bad: {"mimeType": bad}, ["mimeType"]),
        (lambda bad: {"metadata": {"k": [bad]}}, ["metadata", "k", "0"]),
        (lambda bad: {"body": {"text": bad}}, ["body", "text"]),
        (lambda bad: {"body": {"chunks": [{"content": bad}]}}, ["body", "chunks", "0", "content"]),
        (
            lambda bad: {"body": {"chunks": [{"content": "ok"}, {"content": "ok", "metadata": {"k": bad}}]}},
            ["body", "chunks", "1", "metadata", "k"],
        ),
    ],
)
async def test_unstorable_text_in_a_document_is_rejected(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, change: Any, path: list[str], bad: str
) -> None:
    """No part of a document may hold U+0000 or a lone surrogate; nothing of it is then stored."""
    document = {"externalId": "x", "title": "t", "body": {"text": "Refunds take a week."}} | change(bad)
    payload = (await refusing.data(INGEST, {"input": document}))["ingestKbDocument"]
    assert (payload["outcome"], payload["document"]) == ("REJECTED", None)
    assert [(error["code"], error["path"]) for error in payload["userErrors"]] == [("INVALID_INPUT", path)]
    await assert_empty(settings, refused_tenant)


@pytest.mark.parametrize("bad", [NUL, SURROGATE])
async def test_unstorable_text_in_reads_is_a_client_error(client_a: GraphQLClient, bad: str) -> None:
    """Filters and searches with text that no row can hold are client errors that name the field."""
    operators: list[tuple[str, Any]] = [
        ("eq", bad),
        ("startsWith", bad),
        ("contains", bad),
        ("in", ["a", bad]),
        ("notIn", [bad]),
    ]
    for field in ("userId", "actionName", "sessionId", "traceId"):
        for operator, value in operators:
            assert_bad_input(
                await client_a.execute(LIST, {"filter": {field: {operator: value}}}), f"{field}.{operator}"
            )
    documents = "query($filter: KbDocumentFilter) { kbDocuments(filter: $filter) { nodes { id } } }"
    for field in ("externalId", "title"):
        for operator, value in operators:
            answer = await client_a.execute(documents, {"filter": {field: {operator: value}}})
            assert_bad_input(answer, f"{field}.{operator}")
    search = "query($input: KbSearchInput!) { kbSearch(input: $input) { hits { rank } } }"
    assert_bad_input(await client_a.execute(search, {"input": {"query": {"text": bad}}}), "query.text")
    answer = await client_a.execute(search, {"input": {"query": {"text": "x"}, "filter": {"externalIds": [bad]}}})
    assert_bad_input(answer, "filter.externalIds")
    by_key = "query($key: String) { kbDocument(externalId: $key) { id } }"
    assert_bad_input(await client_a.execute(by_key, {"key": bad}), "externalId")
    deleted = await client_a.data(
        "mutation($key: String) { deleteKbDocument(input: {externalId: $key}) { deletedId userErrors { code path } } }",
        {"key": bad},
    )
    assert deleted["deleteKbDocument"] == {
        "deletedId": None,
        "userErrors": [{"code": "INVALID_INPUT", "path": ["externalId"]}],
    }


@pytest.mark.parametrize("bad", [NUL, SURROGATE])
async def test_unstorable_text_anywhere_else_is_a_client_error(client_a: GraphQLClient, bad: str) -> None:
    """Cursors, ids, enum values, names of operations, fields and variables may hold any bytes without harm."""
    cursor = await client_a.execute("query($c: String) { auditEvents(after: $c) { nodes { id } } }", {"c": bad})
    assert_bad_input(cursor, "after")
    for field in ("auditEvent", "node", "kbDocument"):
        data = await client_a.data(f"query($id: ID!) {{ {field}(id: $id) {{ id }} }}", {"id": bad})
        assert data == {field: None}
    status = await client_a.execute(LOGS["logLlmCall"], {"input": {"model": "m", "status": bad}})
    assert_bad_input(status, "status")
    unknown_field = await client_a.execute(LOGS["logLlmCall"], {"input": {"model": "m", bad: 1}})
    assert set(unknown_field.codes) == {"BAD_USER_INPUT"}
    named = json.dumps({"query": "query A { viewer { subject } }", "operationName": bad})
    assert (await client_a.post(named)).codes == ["BAD_USER_INPUT"]
    assert (await client_a.execute(f"{{ viewer {{ {bad} }} }}")).codes == ["BAD_USER_INPUT"]
    assert (await client_a.execute("{ viewer { subject } }", {bad: 1})).data == {"viewer": {"subject": "test-key"}}


@pytest.mark.parametrize("field", ["model", "userId", "sessionId", "traceId", "idempotencyKey"])
@pytest.mark.parametrize("value", ["", " \n"])
async def test_empty_name_is_rejected(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, field: str, value: str
) -> None:
    """A name with nothing in it names nothing."""
    await assert_rejected(refusing, [field], **{field: value})
    await assert_empty(settings, refused_tenant)


async def test_colons_quotes_and_unicode_come_back_as_sent(client_a: GraphQLClient) -> None:
    """Text that means something to SQL, drivers or patterns is only text: created, listed, by id and by filter."""
    name = "foo:bar::baz :x::jsonb %s $1 'q' \"d\" \\ 100% a_b \U0001f600"
    metadata = {"a::b": ":c", ":x::jsonb": ["%(y)s", None, True, {"": ""}], "metadata": {"tenant_id": "other"}}
    event = await logged(client_a, "logToolCall", toolName=name, userId=name, metadata=metadata, error=name)
    by_id = await client_a.data(
        "query($id: ID!) { auditEvent(id: $id) { "
        + EVENT
        + " } node(id: $id) { ... on AuditEvent { "
        + EVENT
        + " } } }",
        {"id": event["id"]},
    )
    await logged(client_a, "logToolCall", toolName="foo:bar", userId="other")
    filtered = await client_a.data(LIST, {"filter": {"actionName": {"eq": name}, "userId": {"contains": "::baz :x"}}})
    assert event["metadata"] == metadata
    assert (event["actionName"], event["userId"], event["error"]) == (name, name, name)
    assert by_id == {"auditEvent": event, "node": event}
    assert filtered["auditEvents"]["nodes"] == [event]


# ---------------------------------------------------------------- metadata


@pytest.mark.parametrize("value", ['{"a":1}', [1], 5, 1.5, True, "x"])
async def test_metadata_that_is_no_object_is_rejected(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, value: object
) -> None:
    """Metadata is an object; text that holds JSON is not silently parsed."""
    assert (await assert_rejected(refusing, ["metadata"], metadata=value)).startswith("INVALID_INPUT")
    document = {"externalId": "x", "title": "t", "body": {"text": "words"}, "metadata": value}
    payload = (await refusing.data(INGEST, {"input": document}))["ingestKbDocument"]
    assert [error["path"] for error in payload["userErrors"]] == [["metadata"]]
    chunk = {"externalId": "x", "title": "t", "body": {"chunks": [{"content": "words", "metadata": value}]}}
    payload = (await refusing.data(INGEST, {"input": chunk}))["ingestKbDocument"]
    assert [error["path"] for error in payload["userErrors"]] == [["body", "chunks", "0", "metadata"]]
    await assert_empty(settings, refused_tenant)


async def test_metadata_is_stored_as_an_object(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """An object is stored as jsonb of that type; left out or null it is the empty object."""
    events = [
        await logged(client_a, metadata={"a": 1}),
        await logged(client_a),
        await logged(client_a, metadata=None),
        await logged(client_a, metadata={"a": '{"b":1}'}),
    ]
    async with connect(settings.database.database_url, tenant_a.id) as connection:
        kinds = await connection.fetch("SELECT DISTINCT jsonb_typeof(metadata) AS kind FROM audit_events")
    assert [event["metadata"] for event in events] == [{"a": 1}, {}, {}, {"a": '{"b":1}'}]
    assert [row["kind"] for row in kinds] == ["object"]


async def test_escalation_keeps_its_reason_in_the_metadata(client_a: GraphQLClient) -> None:
    """The reason and the target of an escalation are in its metadata, beside the client's own."""
    event = await logged(
        client_a, "logEscalation", target="QUEUE", targetId="tier-2", reason="angry", metadata={"score": 0.2}
    )
    assert event["metadata"] == {"score": 0.2, "reason": "angry", "targetId": "tier-2"}
    assert (event["actionType"], event["actionName"], event["status"]) == ("ESCALATION", "queue", "PENDING")


@pytest.mark.parametrize("key", ["reason", "targetId"])
async def test_escalation_metadata_may_not_shadow_its_fields(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, key: str
) -> None:
    """A key that the escalation itself writes is refused in the metadata."""
    await assert_rejected(refusing, ["metadata", key], mutation="logEscalation", metadata={key: "x"})
    await assert_empty(settings, refused_tenant)


# ---------------------------------------------------------------- limits


def nested(levels: int) -> dict[str, Any]:
    """Return an object of so many levels."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("mutation", "fits", "too_large", "path"),
    [
        *(
            ("logLlmCall", {name: "é" * 8192}, {name: "é" * 8192 + "a"}, [name])
            for name in ("inputSummary", "outputSummary", "error")
        ),
        ("logEscalation", {"reason": "r" * 16384}, {"reason": "r" * 16385}, ["reason"]),
        ("logEscalation", {"targetId": "é" * 256}, {"targetId": "é" * 257}, ["targetId"]),
        *(
            ("logLlmCall", {name: "é" * 256}, {name: "é" * 256 + "a"}, [name])
            for name in ("model", "userId", "sessionId", "traceId", "idempotencyKey")
        ),
        ("logLlmCall", {"metadata": {"a": "x" * 65528}}, {"metadata": {"a": "x" * 65529}}, ["metadata"]),
        ("logLlmCall", {"metadata": nested(16)}, {"metadata": nested(17)}, ["metadata"]),
    ],
)
async def test_size_limits_are_exact(
    client_a: GraphQLClient,
    settings: Settings,
    tenant_a: TestTenant,
    mutation: str,
    fits: dict[str, Any],
    too_large: dict[str, Any],
    path: list[str],
) -> None:
    """What is exactly as large as allowed is stored whole; one byte or level more is rejected with the limit."""
    message = await assert_rejected(client_a, path, mutation=mutation, **too_large)
    assert re.match(r"PAYLOAD_TOO_LARGE \w+: must be .*at most \d+", message)
    await assert_empty(settings, tenant_a)
    event = await logged(client_a, mutation, **fits)
    [row] = await stored_events(settings, tenant_a.id)
    assert str(row["id"]) == event["id"]
    for name, value in fits.items():
        if name in event:
            assert event[name] == value


@pytest.mark.parametrize("count", [0, 1001])
@pytest.mark.parametrize("atomic", [True, False])
async def test_batch_of_an_impossible_size_is_refused(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, count: int, atomic: bool
) -> None:
    """A batch holds 1 to 1,000 events."""
    events = [{"llmCall": {"model": "m"}}] * count
    payload = (await refusing.data(LOG_EVENTS, {"input": {"events": events, "atomic": atomic}}))["logEvents"]
    assert payload["results"] == []
    assert (payload["recordedCount"], payload["duplicateCount"], payload["rejectedCount"]) == (0, 0, 0)
    assert [(error["code"], error["path"]) for error in payload["userErrors"]] == [("INVALID_INPUT", ["events"])]
    await assert_empty(settings, refused_tenant)


async def test_batch_of_a_thousand_is_recorded(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """The largest batch is recorded whole, each result in its place."""
    events = [{"toolCall": {"toolName": f"t{n}"}} for n in range(1000)]
    payload = (await client_a.data(LOG_EVENTS, {"input": {"events": events}}))["logEvents"]
    assert payload["recordedCount"] == 1000
    assert [item["event"]["actionName"] for item in payload["results"]] == [f"t{n}" for n in range(1000)]
    assert len(await stored_events(settings, tenant_a.id)) == 1000


@pytest.mark.parametrize("item", [{}, {"llmCall": {"model": "m"}, "toolCall": {"toolName": "t"}}, {"llmCall": None}])
async def test_batch_item_of_no_single_kind_is_refused(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, item: dict[str, Any]
) -> None:
    """An item is of exactly one kind."""
    answer = await refusing.execute(LOG_EVENTS, {"input": {"events": [{"llmCall": {"model": "m"}}, item]}})
    assert set(answer.codes) == {"BAD_USER_INPUT"}, answer.text
    await assert_empty(settings, refused_tenant)


# ---------------------------------------------------------------- ids


@pytest.mark.parametrize(
    "text",
    ["", "nope", "1", "{%s}", "urn:uuid:%s", "%s ", " %s", "%s\n", "%s%s", "00000000-0000-0000-0000-000000000000"],
)
async def test_id_of_nothing_finds_nothing(client_a: GraphQLClient, text: str) -> None:
    """Text that is no UUID is the id of nothing, even where it holds an event's id."""
    event = await logged(client_a)
    wanted = text.replace("%s", event["id"])
    data = await client_a.data(
        "query($id: ID!) { auditEvent(id: $id) { id } node(id: $id) { id } kbDocument(id: $id) { id }"
        " auditEvents(filter: {id: {eq: $id}}) { nodes { id } } }",
        {"id": wanted},
    )
    deleted = await client_a.data(
        "mutation($id: ID) { deleteKbDocument(input: {id: $id}) { deletedId userErrors { code path } } }",
        {"id": wanted},
    )
    assert data == {"auditEvent": None, "node": None, "kbDocument": None, "auditEvents": {"nodes": []}}
    assert deleted["deleteKbDocument"] == {"deletedId": None, "userErrors": [{"code": "NOT_FOUND", "path": ["id"]}]}


async def test_id_in_upper_case_is_the_same_id(client_a: GraphQLClient) -> None:
    """An id is found in either case, and as a whole number it is the id of nothing."""
    event = await logged(client_a)
    found = await client_a.data("query($id: ID!) { auditEvent(id: $id) { id } }", {"id": event["id"].upper()})
    number = await client_a.data("query($id: ID!) { auditEvent(id: $id) { id } }", {"id": 1})
    assert found["auditEvent"] == {"id": event["id"]}
    assert number["auditEvent"] is None


@pytest.mark.parametrize("field", ["agentId", "parentEventId"])
@pytest.mark.parametrize("text", ["", "nope", 1, "{%s}", "urn:uuid:%s", "%s "])
async def test_what_is_no_uuid_is_refused(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, field: str, text: object
) -> None:
    """A UUID in an input has its canonical form."""
    value = text.replace("%s", str(uuid4())) if isinstance(text, str) else text
    assert_bad_input(await refusing.execute(LOGS["logLlmCall"], {"input": {"model": "m", field: value}}), field)
    await assert_empty(settings, refused_tenant)


async def test_uuid_in_upper_case_is_normalised(client_a: GraphQLClient) -> None:
    """A UUID is returned in lower case, however it was sent."""
    agent = uuid4()
    event = await logged(client_a, agentId=str(agent).upper())
    assert event["agentId"] == str(agent)


async def test_parent_event_is_found_once_it_exists(client_a: GraphQLClient) -> None:
    """A parent that is in the trail is returned; one that is not there is null and no error."""
    parent = await logged(client_a)
    child = await logged(client_a, "logToolCall", parentEventId=parent["id"])
    orphan = await logged(client_a, "logToolCall", parentEventId=str(UUID(int=7)))
    assert child["parentEvent"] == {"id": parent["id"]}
    assert orphan["parentEvent"] is None


# ---------------------------------------------------------------- every argument with a wrong kind of value

SCHEMA: GraphQLSchema = build_schema(print_sdl())
UNLIKE: dict[str, Any] = {
    "Int": "x",
    "Float": "x",
    "String": 5,
    "Boolean": "x",
    "ID": {},
    "DateTime": 5,
    "UUID": 5,
    "BigInt": "x",
    "Decimal": {},
    "JSON": 5,
}
LIKE: dict[str, Any] = {
    "Int": 1,
    "Float": 0.5,
    "String": "x",
    "Boolean": True,
    "ID": "x",
    "DateTime": "2026-01-01T00:00:00Z",
    "UUID": str(UUID(int=1)),
    "BigInt": "1",
    "Decimal": "1",
    "JSON": {},
}


def one_of(input_type: GraphQLInputObjectType) -> bool:
    """Whether exactly one of the input's fields is to be given."""
    return input_type.name in {"AuditEventInput", "KbDocumentBodyInput", "KbQueryInput"}


def like(kind: Any) -> Any:
    """Return a valid value with as little in it as possible."""
    if isinstance(kind, GraphQLNonNull):
        return like(kind.of_type)
    if isinstance(kind, GraphQLList):
        return [like(kind.of_type)]
    if isinstance(kind, GraphQLEnumType):
        return next(iter(kind.values))
    if isinstance(kind, GraphQLInputObjectType):
        fields = list(kind.fields.items())
        if one_of(kind):
            return {fields[0][0]: like(fields[0][1].type)}
        return {name: like(field.type) for name, field in fields if is_required_input_field(field)}
    return LIKE[kind.name]


def unlike(kind: Any, seen: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield values that are wrong in one place each, with the names that lead there."""
    if isinstance(kind, GraphQLNonNull):
        yield (), None
        yield from unlike(kind.of_type, seen)
    elif isinstance(kind, GraphQLList):
        for path, value in unlike(kind.of_type, seen):
            yield path, [value]
    elif isinstance(kind, GraphQLEnumType):
        yield (), "NO_SUCH_VALUE"
        yield (), 5
    elif isinstance(kind, GraphQLInputObjectType):
        yield (), "x"
        yield (), 5
        if kind.name not in seen:
            yield from unlike_fields(kind, (*seen, kind.name))
    else:
        yield (), UNLIKE[kind.name]
        if kind.name != "JSON":
            yield (), [[{}]]


def unlike_fields(kind: GraphQLInputObjectType, seen: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield objects with an unknown field, with a required one missing, and with each field wrong."""
    yield ("noSuchField",), like(kind) | {"noSuchField": 1}
    rest = {} if one_of(kind) else like(kind)
    for name, field in kind.fields.items():
        if is_required_input_field(field):
            yield (name,), {key: value for key, value in rest.items() if key != name}
        if kind.name == "JsonPredicate" and get_named_type(field.type).name == "JSON":
            continue  # compared with any JSON value there is: none is of a wrong kind
        for path, value in unlike(field.type, seen):
            yield (name, *path), rest | {name: value}


def wrong_calls() -> Iterator[Any]:
    """Yield every root field with each of its arguments wrong in one place."""
    for root, keyword in ((SCHEMA.query_type, "query"), (SCHEMA.mutation_type, "mutation")):
        assert isinstance(root, GraphQLObjectType)
        for name, field in root.fields.items():
            if field.args:
                yield pytest.param(keyword, name, id=name)


@pytest.mark.parametrize(("keyword", "name"), list(wrong_calls()))
async def test_every_argument_of_a_wrong_kind_is_refused(
    refusing: GraphQLClient, settings: Settings, refused_tenant: TestTenant, keyword: str, name: str
) -> None:
    """A value of a wrong kind in any place of any argument is a client error that names the place."""
    root = SCHEMA.query_type if keyword == "query" else SCHEMA.mutation_type
    assert root is not None
    field = root.fields[name]
    declared = ", ".join(f"${key}: {argument.type}" for key, argument in field.args.items())
    passed = ", ".join(f"{key}: ${key}" for key in field.args)
    inner = "{ __typename }" if is_composite_type(get_named_type(field.type)) else ""
    text = f"{keyword}({declared}) {{ {name}({passed}) {inner} }}"
    detailed = text.replace("__typename", "userErrors { path message }")
    required = {key: like(argument.type) for key, argument in field.args.items() if is_required_argument(argument)}
    tried, faults = 0, []
    for key, argument in field.args.items():
        for path, value in unlike(argument.type):
            tried += 1
            answer = await refusing.execute(text if keyword == "query" else detailed, required | {key: value})
            named = (key, *path)[-1]
            errors = answer.body.get("errors")
            if errors is None:
                payload = (answer.body["data"] or {})[name] or {}
                errors = payload.get("userErrors", []) if isinstance(payload, dict) else []
            elif set(answer.codes) != {"BAD_USER_INPUT"}:
                faults.append((key, path, value, answer.text))
                continue
            if answer.status not in {200, 400} or not errors or not any(named in item["message"] for item in errors):
                faults.append((key, path, value, answer.text))
    assert faults == []
    assert tried > 0
    await assert_empty(settings, refused_tenant)
