"""What a leaf of the log is: the bytes that stand for an event, and their hash.

A leaf is RFC 8785 canonical JSON of all that an event says. Personal content is in it by a keyed hash only, whose key
is the event's own salt, so that content can be erased later without changing a leaf. Leaf hashes are those of RFC 6962:
SHA-256 over a zero byte and the leaf.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

_VERSION = 1
_LEAF_PREFIX = b"\x00"


def leaf_hash(row: Mapping[str, Any]) -> bytes:
    """Return the hash of an event's leaf, 32 bytes. The row has the columns of audit_events by their names."""
    return hashlib.sha256(_LEAF_PREFIX + leaf(row)).digest()


def leaf(row: Mapping[str, Any]) -> bytes:
    """Return an event's leaf. Metadata is the text of the stored jsonb, so that nobody has to agree on numbers."""
    cost = row["cost_usd"]
    return _canonical(
        {
            "v": _VERSION,
            "tenant": str(row["tenant_id"]),
            "id": str(row["id"]),
            "createdAt": _instant(row["created_at"]),
            "occurredAt": _instant(row["occurred_at"]),
            "actionType": row["action_type"],
            "actionName": row["action_name"],
            "status": row["status"],
            "agentId": _text(row["agent_id"]),
            "sessionId": row["session_id"],
            "traceId": row["trace_id"],
            "parentEventId": _text(row["parent_event_id"]),
            "latencyMs": row["latency_ms"],
            "inputTokens": row["input_tokens"],
            "outputTokens": row["output_tokens"],
            "costUsd": None if cost is None else f"{cost:f}",
            "submittedBy": row["submitted_by"],
            "content": _commitment(row),
        }
    )


def _commitment(row: Mapping[str, Any]) -> str:
    content = {
        "userId": row["user_id"],
        "inputSummary": row["input_summary"],
        "outputSummary": row["output_summary"],
        "error": row["error"],
        "metadata": row["metadata"],
    }
    # Events that were written by other hands than the product's may have no salt.
    return "hmac-sha256:" + hmac.new(row["content_salt"] or b"", _canonical(content), hashlib.sha256).hexdigest()


def _canonical(value: Mapping[str, Any]) -> bytes:
    # Texts, nulls and integers of 32 bits under ASCII keys: orjson writes them as RFC 8785 wants them.
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _instant(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
