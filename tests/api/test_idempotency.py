"""A retry is harmless: one key stands for one event, for ever, under any concurrency."""

import asyncio
from typing import Any

import pytest

from app.settings import Settings
from tests.support.database import TestTenant, stored_events
from tests.support.server import GraphQLClient

ERROR = "__typename code message path index ... on IdempotencyConflictError { existing { id actionName metadata } }"
LOG = (
    "mutation($input: LogLlmCallInput!) { logLlmCall(input: $input) { outcome"
    " event { id actionName createdAt metadata }"
    " userErrors { " + ERROR + " } } }"
)
LOG_EVENTS = (
    "mutation($input: LogEventsInput!) { logEvents(input: $input) { results { outcome event { id actionName }"
    " userErrors { " + ERROR + " } } recordedCount duplicateCount rejectedCount userErrors { " + ERROR + " } } }"
)


async def log(client: GraphQLClient, **fields: Any) -> dict[str, Any]:
    """Log one model call; return the payload."""
    data = await client.data(LOG, {"input": {"model": "gpt-4o", "idempotencyKey": "k1"} | fields})
    return dict(data["logLlmCall"])


async def log_batch(client: GraphQLClient, events: list[dict[str, Any]], *, atomic: bool = False) -> dict[str, Any]:
    """Log a batch; return the payload."""
    data = await client.data(LOG_EVENTS, {"input": {"events": events, "atomic": atomic}})
    return dict(data["logEvents"])


def call(model: str, key: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return one item of a batch."""
    return {"llmCall": {"model": model, "idempotencyKey": key} | fields}


def outcomes(payload: dict[str, Any]) -> list[str]:
    """Return the outcome of each item."""
    return [item["outcome"] for item in payload["results"]]


async def names(settings: Settings, tenant: TestTenant) -> list[str]:
    """Return the names of all stored events, sorted."""
    return sorted(row["action_name"] for row in await stored_events(settings, tenant.id))


async def test_same_key_and_body_is_a_duplicate(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """A retry returns the first event and stores nothing."""
    body = {"metadata": {"a": 1, "b": 2}, "costUsd": "0.10", "occurredAt": "2026-01-01T12:00:00Z"}
    first = await log(client_a, **body)
    # The same said in other words: the order of keys, trailing zeros and the offset of a time carry no meaning.
    retried = {"metadata": {"b": 2, "a": 1}, "costUsd": "0.1", "occurredAt": "2026-01-01T13:00:00+01:00"}
    second = await log(client_a, **retried)
    assert (first["outcome"], second["outcome"]) == ("RECORDED", "DUPLICATE")
    assert second == first | {"outcome": "DUPLICATE"}
    assert len(await stored_events(settings, tenant_a.id)) == 1


CHANGES: list[dict[str, Any]] = [
    {"model": "gpt-4o-mini"},
    {"metadata": {"a": 1}},
    {"inputSummary": ""},
    {"status": "FAILED"},
    {"latencyMs": 0},
    {"costUsd": "0"},
    {"occurredAt": "2026-01-01T12:00:00Z"},
    {"agentId": "0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f"},
    {"parentEventId": "0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f"},
    {"userId": "u"},
    {"sessionId": "s"},
    {"traceId": "t"},
    {"error": "e"},
    {"outputSummary": "o"},
    {"inputTokens": 0},
    {"outputTokens": 0},
]


async def test_same_key_with_another_body_is_a_conflict(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """Any difference in what was said is a conflict that shows the first event, which stays as it was."""
    first = await log(client_a)
    existing = {"id": first["event"]["id"], "actionName": "gpt-4o", "metadata": {}}
    for change in CHANGES:
        second = await log(client_a, **change)
        assert (second["outcome"], second["event"]) == ("REJECTED", None), change
        [error] = second["userErrors"]
        assert (error["__typename"], error["code"]) == ("IdempotencyConflictError", "IDEMPOTENCY_CONFLICT")
        assert (error["path"], error["index"], error["existing"]) == (["idempotencyKey"], None, existing)
    assert await names(settings, tenant_a) == ["gpt-4o"]


async def test_same_key_for_another_kind_of_event_is_a_conflict(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """A key is unique over all kinds of events."""
    await log_batch(client_a, [{"llmCall": {"model": "human", "idempotencyKey": "k1"}}])
    payload = await log_batch(client_a, [{"toolCall": {"toolName": "human", "idempotencyKey": "k1"}}])
    assert outcomes(payload) == ["REJECTED"]
    assert [error["code"] for error in payload["userErrors"]] == ["IDEMPOTENCY_CONFLICT"]
    assert len(await stored_events(settings, tenant_a.id)) == 1


async def test_rejected_event_does_not_use_its_key_up(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """A key of an event that was rejected is free for the corrected one."""
    rejected = await log(client_a, latencyMs=-1)
    recorded = await log(client_a, latencyMs=1)
    assert (rejected["outcome"], recorded["outcome"]) == ("REJECTED", "RECORDED")
    assert len(await stored_events(settings, tenant_a.id)) == 1


async def test_parallel_retries_store_one_event(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """Of 20 simultaneous sends one records and all others return its event."""
    payloads = await asyncio.gather(*(log(client_a, metadata={"n": 1}) for _ in range(20)))
    assert sorted(payload["outcome"] for payload in payloads) == ["DUPLICATE"] * 19 + ["RECORDED"]
    [row] = await stored_events(settings, tenant_a.id)
    assert {payload["event"]["id"] for payload in payloads} == {str(row["id"])}
    assert all(payload["event"] == payloads[0]["event"] for payload in payloads)


async def test_parallel_bodies_under_one_key_store_one_event(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """Of 20 simultaneous sends with different bodies one records; all others are told which."""
    payloads = await asyncio.gather(*(log(client_a, model=f"m{n}") for n in range(20)))
    [row] = await stored_events(settings, tenant_a.id)
    assert sorted(payload["outcome"] for payload in payloads) == ["RECORDED"] + ["REJECTED"] * 19
    existing = {payload["userErrors"][0]["existing"]["id"] for payload in payloads if payload["userErrors"]}
    assert existing == {str(row["id"])}


async def test_duplicate_in_a_batch_leaves_the_others_alone(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """Of ten events one of which is known, nine are recorded."""
    first = await log(client_a)
    events = [call(f"m{n}", f"key-{n}") for n in range(9)]
    payload = await log_batch(client_a, [*events[:4], call("gpt-4o", "k1"), *events[4:]])
    assert outcomes(payload) == ["RECORDED"] * 4 + ["DUPLICATE"] + ["RECORDED"] * 5
    assert (payload["recordedCount"], payload["duplicateCount"], payload["rejectedCount"]) == (9, 1, 0)
    assert payload["results"][4]["event"]["id"] == first["event"]["id"]
    assert payload["userErrors"] == []
    assert await names(settings, tenant_a) == ["gpt-4o", *(f"m{n}" for n in range(9))]


@pytest.mark.parametrize("atomic", [False, True])
async def test_key_twice_in_a_batch_with_one_body_is_one_event(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant, atomic: bool
) -> None:
    """The second is a duplicate of the first, which is in the same batch."""
    payload = await log_batch(client_a, [call("m", "k"), call("m", "k"), call("other")], atomic=atomic)
    assert outcomes(payload) == ["RECORDED", "DUPLICATE", "RECORDED"]
    assert payload["results"][0]["event"] == payload["results"][1]["event"]
    assert await names(settings, tenant_a) == ["m", "other"]


async def test_key_twice_in_a_batch_with_two_bodies_is_a_conflict(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """The first is recorded and the second conflicts with it."""
    payload = await log_batch(client_a, [call("m1", "k"), call("m2", "k"), call("m3")])
    [error] = payload["userErrors"]
    assert outcomes(payload) == ["RECORDED", "REJECTED", "RECORDED"]
    assert (error["code"], error["index"]) == ("IDEMPOTENCY_CONFLICT", 1)
    assert error["existing"]["id"] == payload["results"][0]["event"]["id"]
    assert await names(settings, tenant_a) == ["m1", "m3"]


async def test_atomic_batch_with_a_bad_event_records_nothing(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """All events are rejected, each with its reason, and no key is used up."""
    payload = await log_batch(client_a, [call("m1", "k1"), call("m2", "k2", latencyMs=-1), call("m3")], atomic=True)
    assert outcomes(payload) == ["REJECTED"] * 3
    assert (payload["recordedCount"], payload["duplicateCount"], payload["rejectedCount"]) == (0, 0, 3)
    assert [(error["code"], error["index"], error["path"]) for error in payload["userErrors"]] == [
        ("INVALID_INPUT", 0, None),
        ("INVALID_INPUT", 1, ["latencyMs"]),
        ("INVALID_INPUT", 2, None),
    ]
    assert await names(settings, tenant_a) == []
    again = await log_batch(client_a, [call("m1", "k1"), call("m2", "k2"), call("m3")], atomic=True)
    assert outcomes(again) == ["RECORDED"] * 3
    assert await names(settings, tenant_a) == ["m1", "m2", "m3"]


async def test_atomic_batch_with_a_conflict_records_nothing(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """A conflict with a stored event rejects the batch; the stored one and true duplicates are shown as they are."""
    stored = await log_batch(client_a, [call("old", "k-old"), call("same", "k-same")])
    events = [call("new", "k-new"), call("changed", "k-old"), call("same", "k-same")]
    payload = await log_batch(client_a, events, atomic=True)
    assert outcomes(payload) == ["REJECTED", "REJECTED", "DUPLICATE"]
    conflict = next(error for error in payload["userErrors"] if error["code"] == "IDEMPOTENCY_CONFLICT")
    assert (conflict["index"], conflict["existing"]["id"]) == (1, stored["results"][0]["event"]["id"])
    assert payload["results"][2]["event"] == stored["results"][1]["event"]
    assert await names(settings, tenant_a) == ["old", "same"]
    assert (await log(client_a, idempotencyKey="k-new", model="free"))["outcome"] == "RECORDED"


async def test_atomic_batch_that_conflicts_with_itself_shows_no_event_that_is_not_stored(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """When a batch is undone, none of its own events is shown as recorded, as a duplicate or as existing."""
    events = [call("m1", "k"), call("m1", "k"), call("m2", "k")]
    payload = await log_batch(client_a, events, atomic=True)
    assert outcomes(payload) == ["REJECTED"] * 3
    assert [item["event"] for item in payload["results"]] == [None] * 3
    assert [error.get("existing") for error in payload["userErrors"]] == [None] * 3
    assert await names(settings, tenant_a) == []


async def test_atomic_duplicates_are_no_mistake(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant
) -> None:
    """An atomic batch may be retried as a whole."""
    events = [call("m1", "k1"), call("m2", "k2")]
    first = await log_batch(client_a, events, atomic=True)
    second = await log_batch(client_a, events, atomic=True)
    assert outcomes(second) == ["DUPLICATE"] * 2
    assert [item["event"] for item in second["results"]] == [item["event"] for item in first["results"]]
    assert await names(settings, tenant_a) == ["m1", "m2"]


@pytest.mark.parametrize("atomic", [False, True])
async def test_batches_with_the_same_keys_in_opposite_orders_do_not_deadlock(
    client_a: GraphQLClient, settings: Settings, tenant_a: TestTenant, atomic: bool
) -> None:
    """Batches that claim the same keys from both ends at once all finish, and each event is stored once."""
    events = [call(f"m{n:03}", f"k{n:03}") for n in range(200)]
    batches = [events, events[::-1]] * 4
    payloads = await asyncio.wait_for(
        asyncio.gather(*(log_batch(client_a, batch, atomic=atomic) for batch in batches)), timeout=30
    )
    assert sum(payload["recordedCount"] for payload in payloads) == 200
    assert sum(payload["duplicateCount"] for payload in payloads) == 200 * 7
    assert await names(settings, tenant_a) == [f"m{n:03}" for n in range(200)]


async def test_keys_of_another_tenant_are_of_no_concern(
    client_a: GraphQLClient,
    client_b: GraphQLClient,
    settings: Settings,
    tenant_a: TestTenant,
    tenant_b: TestTenant,
) -> None:
    """Two tenants use the same key for different events, singly and in batches, and never hear of each other."""
    own = await log(client_a, model="a")
    foreign = await log(client_b, model="b")
    batches = [await log_batch(client, [call("batch", "k2")]) for client in (client_a, client_b)]
    assert (own["outcome"], foreign["outcome"]) == ("RECORDED", "RECORDED")
    assert foreign["userErrors"] == []
    assert own["event"]["id"] != foreign["event"]["id"]
    assert [outcomes(payload) for payload in batches] == [["RECORDED"], ["RECORDED"]]
    assert await names(settings, tenant_a) == ["a", "batch"]
    assert await names(settings, tenant_b) == ["b", "batch"]


async def test_document_keys_of_another_tenant_are_of_no_concern(
    client_a: GraphQLClient, client_b: GraphQLClient
) -> None:
    """Two tenants have a document of the same key and content each."""
    mutation = (
        "mutation($input: IngestKbDocumentInput!) { ingestKbDocument(input: $input) { outcome document { id } } }"
    )
    document = {"externalId": "x", "title": "t", "body": {"text": "Refunds take a week."}}
    answers = [
        (await client.data(mutation, {"input": document}))["ingestKbDocument"] for client in (client_a, client_b)
    ]
    assert [answer["outcome"] for answer in answers] == ["CREATED", "CREATED"]
    assert answers[0]["document"]["id"] != answers[1]["document"]["id"]
