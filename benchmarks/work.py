"""The pieces of work, in the words of each server, and how its answer is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from benchmarks.client import encode
from benchmarks.wrk import UNIQUE

# 384 numbers, the dimension of the product's own embedding model.
VECTOR = [round(0.05 * ((n * 37) % 41 - 20), 3) for n in range(384)]

_EVENT = {
    "inputSummary": "Summarise ticket 12 for the customer",
    "outputSummary": "Propose a refund",
    "latencyMs": 812,
    "metadata": {"model": "gpt-4o"},
}
_FIELDS = "agentId userId actionType inputSummary outputSummary latencyMs metadata createdAt"

Row = tuple[object, ...]


class Work(StrEnum):
    """What a server is asked to do."""

    LIST = "list"
    UNSEEN = "unseen"
    SEARCH = "search"
    STATS = "stats"
    # Last, since it makes the tables grow.
    INSERT = "insert"

    @property
    def description(self) -> str:
        """The work in the words of the report."""
        return _TITLES[self]


_TITLES = {
    Work.LIST: "list: newest 50 tool invocations, 9 fields",
    Work.UNSEEN: "unseen: the list, in a document never seen before",
    Work.SEARCH: "search: nearest 10 chunks to a vector",
    Work.STATS: "stats: 30 days by action name",
    Work.INSERT: "insert: one durable event",
}


@dataclass(frozen=True, slots=True)
class Task:
    """One GraphQL request. `field` is the root field; `read` returns the rows of its answer, the same for every server.

    A row is an id, or for stats the action name, the count, the failed count and the cost.
    """

    field: str
    document: str
    variables: Mapping[str, object]
    read: Callable[[Any], list[Row]]

    @property
    def body(self) -> str:
        """The body to send, which may hold `UNIQUE`."""
        return encode(self.document, self.variables)


def product_tasks(since: datetime) -> dict[Work, Task]:
    """Return the work in the product's words."""
    return _completed({
        Work.LIST: Task(
            "auditEvents",
            "{ auditEvents(first: 50, filter: {actionType: {eq: TOOL_INVOCATION}})"
            f" {{ nodes {{ id {_FIELDS} }} }} }}",
            {},
            lambda page: [(event["id"],) for event in page["nodes"]],
        ),
        Work.SEARCH: Task(
            "kbSearch",
            "query($vector: [Float!]!) { kbSearch(input: {query: {vector: $vector}, limit: 10})"
            " { hits { score chunk { id content } } } }",
            {"vector": VECTOR},
            lambda result: [(hit["chunk"]["id"],) for hit in result["hits"]],
        ),
        Work.STATS: Task(
            "auditStats",
            "query($since: DateTime!) { auditStats(filter: {createdAt: {gte: $since}}, groupBy: [ACTION_NAME])"
            " { key { value } count failedCount latencyMs { p50 p95 } costUsd } }",
            {"since": since.isoformat()},
            lambda groups: [_stats(group["key"][0]["value"], group) for group in groups],
        ),
        Work.INSERT: Task(
            "logLlmCall",
            "mutation($event: LogLlmCallInput!) { logLlmCall(input: $event) { event { id createdAt } } }",
            {"event": {"model": "gpt-4o", **_EVENT}},
            lambda payload: [(payload["event"]["id"],)],
        ),
    })  # fmt: skip


def postgraphile_tasks(tenant_id: str, since: datetime) -> dict[Work, Task]:
    """Return the work in PostGraphile's words. The client makes the new event's id: the table has no default for it."""
    event = {
        "rowId": f"0197f2a0-5c1e-7cc3-98c4-{UNIQUE}", "tenantId": tenant_id, "actionType": "llm_call",
        "actionName": "gpt-4o", "status": "succeeded", "submittedBy": "bench", **_EVENT,
    }  # fmt: skip
    order = 'orderBy: [CREATED_AT_DESC, ROW_ID_DESC], condition: {actionType: "tool_invocation"}'
    return _completed({
        Work.LIST: Task(
            "allAuditEvents",
            f"{{ allAuditEvents(first: 50, {order}) {{ nodes {{ rowId {_FIELDS} }} }} }}",
            {},
            lambda page: [(event["rowId"],) for event in page["nodes"]],
        ),
        Work.SEARCH: Task(
            "benchSearchChunks",
            "query($vector: [Float]) { benchSearchChunks(query: $vector, k: 10) { nodes { rowId content } } }",
            {"vector": VECTOR},
            lambda result: [(chunk["rowId"],) for chunk in result["nodes"]],
        ),
        Work.STATS: Task(
            "benchEventStats",
            "query($since: Datetime!) { benchEventStats(since: $since)"
            " { nodes { actionName count failedCount latencyP50 latencyP95 costUsd } } }",
            {"since": since.isoformat()},
            lambda result: [_stats(group["actionName"], group) for group in result["nodes"]],
        ),
        Work.INSERT: Task(
            "createAuditEvent",
            "mutation($event: AuditEventInput!) { createAuditEvent(input: {auditEvent: $event})"
            " { auditEvent { rowId createdAt } } }",
            {"event": event},
            lambda payload: [(payload["auditEvent"]["rowId"],)],
        ),
    })  # fmt: skip


def obvious_tasks(since: datetime) -> dict[Work, Task]:
    """Return the work in the words of peers/obvious_strawberry.py."""
    return _completed({
        Work.LIST: Task(
            "events",
            f'{{ events(first: 50, actionType: "tool_invocation") {{ id {_FIELDS} }} }}',
            {},
            lambda events: [(event["id"],) for event in events],
        ),
        Work.SEARCH: Task(
            "search",
            "query($vector: [Float!]!) { search(vector: $vector, limit: 10) { score chunk { id content } } }",
            {"vector": VECTOR},
            lambda hits: [(hit["chunk"]["id"],) for hit in hits],
        ),
        Work.STATS: Task(
            "eventStats",
            "query($since: DateTime!) { eventStats(since: $since)"
            " { actionName count failedCount latencyP50 latencyP95 costUsd } }",
            {"since": since.isoformat()},
            lambda groups: [_stats(group["actionName"], group) for group in groups],
        ),
        Work.INSERT: Task(
            "logLlmCall",
            "mutation($event: NewEvent!) { logLlmCall(event: $event) { id createdAt } }",
            {"event": {"actionName": "gpt-4o", **_EVENT}},
            lambda event: [(event["id"],)],
        ),
    })  # fmt: skip


def _completed(tasks: dict[Work, Task]) -> dict[Work, Task]:
    """Add the list in a document of its own for each request, by a comment."""
    listing = tasks[Work.LIST]
    return {**tasks, Work.UNSEEN: replace(listing, document=f"# {UNIQUE}\n{listing.document}")}


def _stats(name: str | None, group: Mapping[str, Any]) -> Row:
    # 64-bit numbers and decimals are texts in some of the APIs.
    return name, int(group["count"]), int(group["failedCount"]), round(Decimal(str(group["costUsd"])), 6)
