"""`AuditLogger` used as a library: what is recorded, in whose transaction, and under which agent."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from app.audit import AuditLogger, Escalation, LlmCall, ToolCall
from app.audit.events import AuditEventValue, EscalationTarget, EventStatus, RecordedEvent
from app.audit.recording import LogOutcome, LogResult
from app.auth.principal import Principal, Scope
from app.database.database import Database
from app.errors import AgentNotAllowed, IdempotencyConflict, InvalidInput, PayloadTooLarge, UserMistake
from app.settings import Limits, Settings
from tests.support.database import TestTenant, connect, stored_events

AGENT = UUID("0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f")
PARENT = UUID("0197f2a0-5c1e-7cc3-98c4-dc0c0c073990")
OCCURRED = datetime(2026, 1, 31, 17, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))

COMMON: Mapping[str, Any] = {
    "agent_id": AGENT,
    "user_id": "user-7",
    "session_id": "session-1",
    "trace_id": "trace-1",
    "parent_event_id": PARENT,
    "error": "partly",
    "occurred_at": OCCURRED,
    "latency_ms": 2147483647,
    "metadata": {"a::b": ":c", "big": 12345678901234567890123, "nested": [1, {"x": None}]},
    "input_summary": "in",
    "output_summary": "out",
}


@pytest.fixture
def logger(database: Database, tenant_a: TestTenant) -> AuditLogger:
    """A logger under a credential that is bound to no agent."""
    return AuditLogger(database, tenant_a.principal, Limits())


def bound_logger(database: Database, tenant: TestTenant, agent_id: UUID) -> AuditLogger:
    """Return a logger under a credential that may speak for one agent only."""
    principal = Principal(tenant.id, tenant.name, "bound-key", frozenset({Scope.AUDIT_WRITE}), agent_id)
    return AuditLogger(database, principal, Limits())


async def stored_ids(tenant: TestTenant) -> set[UUID]:
    """Return the ids of all that the tenant's trail holds."""
    return {row["id"] for row in await stored_events(tenant.settings, tenant.id)}


def recorded(result: LogResult) -> RecordedEvent:
    """Return the event of a result that must be recorded."""
    assert result.outcome is LogOutcome.RECORDED
    assert result.event is not None
    return result.event


def assert_common_columns(row: asyncpg.Record, tenant: TestTenant) -> None:
    """Check the columns that the three kinds of event share."""
    assert row["tenant_id"] == tenant.id
    assert row["submitted_by"] == "test-key"
    for name in set(COMMON) - {"metadata", "occurred_at"}:
        assert row[name] == COMMON[name], name
    assert row["occurred_at"] == datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
    assert len(row["content_salt"]) == 32


async def test_llm_call_is_stored_as_given(logger: AuditLogger, tenant_a: TestTenant) -> None:
    """Every field of a model call is in its row, exactly."""
    call = LlmCall(model="gpt-4o", input_tokens=12, output_tokens=0, cost_usd=Decimal("0.000000000001"), **COMMON)
    event = recorded(await logger.log_llm_call(call))
    (row,) = await stored_events(tenant_a.settings, tenant_a.id)
    assert_common_columns(row, tenant_a)
    assert row["id"] == event.id
    assert (row["action_type"], row["action_name"], row["status"]) == ("llm_call", "gpt-4o", "succeeded")
    assert (row["input_tokens"], row["output_tokens"], row["cost_usd"]) == (12, 0, Decimal("0.000000000001"))
    assert row["metadata"] == '{"big": 12345678901234567890123, "a::b": ":c", "nested": [1, {"x": null}]}'


async def test_tool_call_is_stored_as_given(logger: AuditLogger, tenant_a: TestTenant) -> None:
    """Every field of a tool call is in its row, and nothing of a model call's."""
    call = ToolCall(tool_name="issue_refund", status=EventStatus.DENIED, **COMMON)
    event = recorded(await logger.log_tool_call(call))
    (row,) = await stored_events(tenant_a.settings, tenant_a.id)
    assert_common_columns(row, tenant_a)
    assert row["id"] == event.id
    assert (row["action_type"], row["action_name"], row["status"]) == ("tool_invocation", "issue_refund", "denied")
    assert (row["input_tokens"], row["output_tokens"], row["cost_usd"]) == (None, None, None)


async def test_escalation_keeps_reason_and_target_in_its_metadata(logger: AuditLogger, tenant_a: TestTenant) -> None:
    """An escalation waits by default, and its reason and target id are in its metadata."""
    escalation = Escalation(
        target=EscalationTarget.QUEUE, target_id="billing", reason="over the limit", metadata={"amount": 900}
    )
    event = recorded(await logger.log_escalation(escalation))
    (row,) = await stored_events(tenant_a.settings, tenant_a.id)
    assert row["id"] == event.id
    assert (row["action_type"], row["action_name"], row["status"]) == ("escalation", "queue", "pending")
    assert row["metadata"] == '{"amount": 900, "reason": "over the limit", "targetId": "billing"}'


async def test_every_field_can_be_read_after_the_commit(logger: AuditLogger) -> None:
    """A result's event is whole, server defaults included: nothing is loaded lazily after its session is gone (C55)."""
    results = [
        await logger.log_llm_call(LlmCall(model="gpt-4o")),
        await logger.log_tool_call(ToolCall(tool_name="search")),
        await logger.log_escalation(Escalation(target=EscalationTarget.HUMAN, reason="r")),
        *await logger.log_events([LlmCall(model="a"), ToolCall(tool_name="b")]),
    ]
    now = datetime.now(UTC)
    for result in results:
        event = recorded(result)
        assert abs(event.created_at - now) < timedelta(seconds=60)
        assert (event.submitted_by, event.parent_event_id) == (logger.author.subject, None)


async def test_duplicate_and_conflict_return_a_readable_first_event(logger: AuditLogger, tenant_a: TestTenant) -> None:
    """A retry returns the first event, another body under its key is refused with it, and only one row is stored."""
    first = recorded(await logger.log_llm_call(LlmCall(model="gpt-4o", idempotency_key="k")))
    again = await logger.log_llm_call(LlmCall(model="gpt-4o", idempotency_key="k"))
    other = await logger.log_llm_call(LlmCall(model="other", idempotency_key="k"))
    assert (again.outcome, other.outcome) == (LogOutcome.DUPLICATE, LogOutcome.REJECTED)
    assert isinstance(other.mistake, IdempotencyConflict)
    for result in (again, other):
        assert result.event is not None
        assert (result.event.id, result.event.created_at, result.event.action_name) == (
            first.id,
            first.created_at,
            "gpt-4o",
        )
    assert await stored_ids(tenant_a) == {first.id}


async def test_event_within_a_session_commits_with_it(
    logger: AuditLogger, database: Database, tenant_a: TestTenant
) -> None:
    """An event logged within the caller's session is invisible until the caller commits, and then there."""
    async with database.tenant_session(tenant_a.id) as session:
        event = recorded(await logger.within(session).log_tool_call(ToolCall(tool_name="t")))
        assert await stored_ids(tenant_a) == set()
    assert await stored_ids(tenant_a) == {event.id}


async def test_event_within_a_session_rolls_back_with_it(
    logger: AuditLogger, database: Database, tenant_a: TestTenant
) -> None:
    """When the caller's work fails, its events are gone and their idempotency keys are free again."""

    async def fail() -> None:
        async with database.tenant_session(tenant_a.id) as session:
            recorded(await logger.within(session).log_tool_call(ToolCall(tool_name="t", idempotency_key="k")))
            raise RuntimeError("the caller's own work failed")

    with pytest.raises(RuntimeError, match="own work"):
        await fail()
    assert await stored_ids(tenant_a) == set()
    retried = recorded(await logger.log_tool_call(ToolCall(tool_name="t", idempotency_key="k")))
    assert await stored_ids(tenant_a) == {retried.id}


async def test_rejected_event_does_not_spoil_the_callers_transaction(
    logger: AuditLogger, database: Database, tenant_a: TestTenant
) -> None:
    """Rejected events, also a whole atomic batch, leave the caller's session usable and its other events stored."""
    first = recorded(await logger.log_llm_call(LlmCall(model="first", idempotency_key="k")))
    async with database.tenant_session(tenant_a.id) as session:
        within = logger.within(session)
        before = recorded(await within.log_tool_call(ToolCall(tool_name="before")))
        conflict = await within.log_llm_call(LlmCall(model="other", idempotency_key="k"))
        batch = await within.log_events(
            [ToolCall(tool_name="lost"), LlmCall(model="other", idempotency_key="k")], atomic=True
        )
        too_large = await within.log_tool_call(ToolCall(tool_name="x" * 513))
        after = recorded(await within.log_tool_call(ToolCall(tool_name="after")))
    assert conflict.outcome is LogOutcome.REJECTED
    assert [result.outcome for result in batch] == [LogOutcome.REJECTED, LogOutcome.REJECTED]
    assert isinstance(too_large.mistake, PayloadTooLarge)
    assert await stored_ids(tenant_a) == {first.id, before.id, after.id}


async def test_refusal_by_the_database_does_not_spoil_the_callers_transaction(
    logger: AuditLogger, database: Database, tenant_a: TestTenant
) -> None:
    """An event that PostgreSQL itself refuses raises, and the caller can go on in its own transaction."""
    bad = LlmCall(model="m", input_tokens=1)
    object.__setattr__(bad, "input_tokens", -1)
    async with database.tenant_session(tenant_a.id) as session:
        with pytest.raises(Exception, match="input_tokens"):
            await logger.within(session).log_llm_call(bad)
        after = recorded(await logger.within(session).log_tool_call(ToolCall(tool_name="after")))
    assert await stored_ids(tenant_a) == {after.id}


async def test_bound_credential_fills_in_its_agent(database: Database, tenant_a: TestTenant) -> None:
    """A credential bound to an agent records under it, whether the event names the agent or leaves it out."""
    logger = bound_logger(database, tenant_a, AGENT)
    silent = recorded(await logger.log_llm_call(LlmCall(model="m")))
    named = recorded(await logger.log_llm_call(LlmCall(model="m", agent_id=AGENT)))
    assert (silent.agent_id, named.agent_id) == (AGENT, AGENT)
    assert {row["submitted_by"] for row in await stored_events(tenant_a.settings, tenant_a.id)} == {"bound-key"}


async def test_bound_credential_may_not_speak_for_another_agent(database: Database, tenant_a: TestTenant) -> None:
    """An event under another agent's id is rejected by every method and leaves nothing behind."""
    logger = bound_logger(database, tenant_a, AGENT)
    other = uuid4()
    results = [
        await logger.log_llm_call(LlmCall(model="m", agent_id=other)),
        await logger.log_tool_call(ToolCall(tool_name="t", agent_id=other, idempotency_key="k")),
        await logger.log_escalation(Escalation(target=EscalationTarget.HUMAN, reason="r", agent_id=other)),
        *await logger.log_events([LlmCall(model="m", agent_id=other)]),
    ]
    assert [type(result.mistake) for result in results] == [AgentNotAllowed] * 4
    assert [result.outcome for result in results] == [LogOutcome.REJECTED] * 4
    assert await stored_ids(tenant_a) == set()
    async with connect(tenant_a.settings.database.database_url, tenant_a.id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM audit_idempotency_keys") == 0


async def test_batch_stores_good_events_beside_bad_ones(logger: AuditLogger, tenant_a: TestTenant) -> None:
    """Without `atomic`, each event has its own outcome, in order, and the good ones are stored."""
    first = recorded(await logger.log_llm_call(LlmCall(model="m", idempotency_key="k")))
    events: list[AuditEventValue | UserMistake] = [
        ToolCall(tool_name="good"),
        ToolCall(tool_name="too large", input_summary="x" * 16385),
        InvalidInput(("model",), "must not be empty"),
        LlmCall(model="m", idempotency_key="k"),
        LlmCall(model="conflict", idempotency_key="k"),
        LlmCall(model="also good", idempotency_key="new"),
        LlmCall(model="also good", idempotency_key="new"),
    ]
    results = await logger.log_events(events)
    assert [result.outcome.value for result in results] == [
        "RECORDED", "REJECTED", "REJECTED", "DUPLICATE", "REJECTED", "RECORDED", "DUPLICATE",
    ]  # fmt: skip
    assert [type(result.mistake) for result in results] == [
        type(None), PayloadTooLarge, InvalidInput, type(None), IdempotencyConflict, type(None), type(None),
    ]  # fmt: skip
    assert results[6].event == results[5].event
    assert await stored_ids(tenant_a) == {first.id, recorded(results[0]).id, recorded(results[5]).id}


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(InvalidInput(("model",), "must not be empty"), id="malformed"),
        pytest.param(ToolCall(tool_name="x", error="x" * 16385), id="too large"),
        pytest.param(LlmCall(model="conflict", idempotency_key="k"), id="conflict in the database"),
        pytest.param(LlmCall(model="conflict", idempotency_key="new"), id="conflict within the batch"),
    ],
)
async def test_atomic_batch_stores_nothing_beside_a_bad_event(
    logger: AuditLogger, tenant_a: TestTenant, bad: AuditEventValue | UserMistake
) -> None:
    """With `atomic`, one bad event rejects all others, their keys stay free, and only what was there is a duplicate."""
    first = recorded(await logger.log_llm_call(LlmCall(model="m", idempotency_key="k")))
    results = await logger.log_events([ToolCall(tool_name="good", idempotency_key="new"), bad], atomic=True)
    assert [result.outcome for result in results] == [LogOutcome.REJECTED, LogOutcome.REJECTED]
    assert all(result.mistake is not None for result in results)
    assert await stored_ids(tenant_a) == {first.id}
    retried = recorded(await logger.log_tool_call(ToolCall(tool_name="another", idempotency_key="new")))
    assert await stored_ids(tenant_a) == {first.id, retried.id}


async def test_atomic_batch_of_good_events_is_stored(logger: AuditLogger, tenant_a: TestTenant) -> None:
    """With `atomic` and no mistake, everything is stored at one time, and duplicates do not reject the rest."""
    first = recorded(await logger.log_llm_call(LlmCall(model="m", idempotency_key="k")))
    results = await logger.log_events(
        [ToolCall(tool_name="a"), LlmCall(model="m", idempotency_key="k"), ToolCall(tool_name="b")], atomic=True
    )
    assert [result.outcome.value for result in results] == ["RECORDED", "DUPLICATE", "RECORDED"]
    assert recorded(results[0]).created_at == recorded(results[2]).created_at
    assert await stored_ids(tenant_a) == {first.id, recorded(results[0]).id, recorded(results[2]).id}


@pytest.mark.parametrize("count", [0, 3])
async def test_batch_of_impossible_size_is_refused(database: Database, tenant_a: TestTenant, count: int) -> None:
    """An empty batch or one beyond the limit raises, names the limit, and stores nothing."""
    logger = AuditLogger(database, tenant_a.principal, Limits(events_per_batch=2))
    with pytest.raises(InvalidInput, match=f"^events: must hold between 1 and 2 events, got {count}$"):
        await logger.log_events([ToolCall(tool_name="t")] * count)
    assert await stored_ids(tenant_a) == set()


async def test_sizes_are_checked_in_bytes_at_the_limit(logger: AuditLogger, settings: Settings) -> None:
    """Exactly the limit in bytes of UTF-8 is accepted, one more is refused with the field's path."""
    fits = await logger.log_llm_call(LlmCall(model="é" * 256, input_summary="é" * 8192))
    over = await logger.log_llm_call(LlmCall(model="é" * 256 + "x"))
    recorded(fits)
    assert isinstance(over.mistake, PayloadTooLarge)
    assert over.mistake.path == ("model",)
