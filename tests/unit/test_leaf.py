"""The leaf of the log, against an implementation of RFC 8785 by other hands."""

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from app.integrity.leaf import leaf, leaf_hash

# All that PostgreSQL stores: no NUL and no lone surrogates.
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
numbers = st.none() | st.integers(0, 2**31 - 1)
instants = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]))
rows = st.fixed_dictionaries(
    {
        "tenant_id": st.uuids(),
        "id": st.uuids(),
        "created_at": instants,
        "occurred_at": st.none() | instants,
        "action_type": st.sampled_from(["llm_call", "tool_invocation"]),
        "status": st.sampled_from(["succeeded", "failed"]),
        "agent_id": st.none() | st.uuids(),
        "parent_event_id": st.none() | st.uuids(),
        "latency_ms": numbers,
        "input_tokens": numbers,
        "output_tokens": numbers,
        "cost_usd": st.none() | st.decimals("0", "1e9", places=12),
        "submitted_by": texts,
        "metadata": texts,
        "content_salt": st.none() | st.binary(min_size=32, max_size=32),
    }
    | dict.fromkeys(
        ("action_name", "session_id", "trace_id", "user_id", "input_summary", "output_summary", "error"),
        st.none() | texts,
    )
)


@given(rows)
def test_leaf_is_canonical_json(row: dict[str, Any]) -> None:
    """What is hashed is, byte for byte, RFC 8785's form of itself, and so is what stands behind the commitment."""
    written = leaf(row)
    found = json.loads(written)
    assert rfc8785.dumps(found) == written
    personal = {
        "userId": row["user_id"],
        "inputSummary": row["input_summary"],
        "outputSummary": row["output_summary"],
        "error": row["error"],
        "metadata": row["metadata"],
    }
    commitment = hmac.new(row["content_salt"] or b"", rfc8785.dumps(personal), hashlib.sha256).hexdigest()
    assert found["content"] == f"hmac-sha256:{commitment}"
    assert leaf_hash(row) == hashlib.sha256(b"\x00" + written).digest()


def test_leaf_of_a_known_event() -> None:
    """The format is for ever: a change of it would break every log."""
    row = {
        "tenant_id": UUID(int=1), "id": UUID(int=2), "created_at": datetime(2026, 1, 31, 12, 0, 0, 5, UTC),
        "occurred_at": None, "action_type": "llm_call", "action_name": "gpt-4o", "status": "succeeded",
        "agent_id": None, "session_id": "s", "trace_id": None, "parent_event_id": None, "latency_ms": 812,
        "input_tokens": 100, "output_tokens": 50, "cost_usd": Decimal("0.00012500"), "submitted_by": "bot",
        "user_id": "naïve", "input_summary": 'a "question"', "output_summary": None, "error": None,
        "metadata": '{"n": 12345678901234567890}', "content_salt": bytes(range(32)),
    }  # fmt: skip
    assert leaf(row) == (
        b'{"actionName":"gpt-4o","actionType":"llm_call","agentId":null,"content":"hmac-sha256:'
        b'7aa1659577e8ea01fb2c8bc38fd45d3afd8800a24530053c9d56dc24edfe4e39",'
        b'"costUsd":"0.00012500","createdAt":"2026-01-31T12:00:00.000005Z",'
        b'"id":"00000000-0000-0000-0000-000000000002","inputTokens":100,"latencyMs":812,"occurredAt":null,'
        b'"outputTokens":50,"parentEventId":null,"sessionId":"s","status":"succeeded","submittedBy":"bot",'
        b'"tenant":"00000000-0000-0000-0000-000000000001","traceId":null,"v":1}'
    )
