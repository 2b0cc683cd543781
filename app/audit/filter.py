"""Which events are wanted: the one filter of lists, counts and all that will read the trail.

A filter comes apart into values and shape (see `app.filters`), and, where an index can look candidates up for it, into
what the index is asked for.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Text, func, literal_column, select, tuple_

from app.errors import InvalidInput, Path
from app.filters import (
    Condition,
    Operands,
    RangeFilter,
    SetFilter,
    StringFilter,
    TimeFilter,
    all_of,
    any_of,
    check_count,
    negation,
    operand,
    scoped,
)
from app.json_predicates import JsonPredicate, check_predicates, predicate_conditions, predicate_operands
from app.models import AuditEvent, AuditLogLeaf
from app.settings import Limits
from app.validation import check_size, check_text

_COLUMNS = {
    "id": AuditEvent.id,
    "agent_id": AuditEvent.agent_id,
    "user_id": AuditEvent.user_id,
    "action_type": AuditEvent.action_type,
    "action_name": AuditEvent.action_name,
    "status": AuditEvent.status,
    "session_id": AuditEvent.session_id,
    "trace_id": AuditEvent.trace_id,
    "created_at": AuditEvent.created_at,
    "latency_ms": AuditEvent.latency_ms,
    "cost_usd": AuditEvent.cost_usd,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEventFilter:
    """Which events are wanted. All conditions given must hold; an empty filter matches every event."""

    id: SetFilter[UUID] | None = None
    agent_id: SetFilter[UUID] | None = None
    user_id: StringFilter | None = None
    action_type: StringFilter | None = None
    action_name: StringFilter | None = None
    status: StringFilter | None = None
    session_id: StringFilter | None = None
    trace_id: StringFilter | None = None
    created_at: TimeFilter | None = None
    latency_ms: RangeFilter[int] | None = None
    cost_usd: RangeFilter[Decimal] | None = None
    sequence: RangeFilter[int] | None = None
    metadata: Sequence[JsonPredicate] | None = None
    search: str | None = None
    and_: Sequence["AuditEventFilter"] | None = None
    or_: Sequence["AuditEventFilter"] | None = None
    not_: "AuditEventFilter | None" = None

    def checked(self, limits: Limits, path: Path = ("filter",), depth: int = 0) -> "AuditEventFilter":
        """Return itself if it is within the limits and every operand can be compared."""
        if depth > limits.filter_depth:
            raise InvalidInput(path, f"and, or and not may be nested at most {limits.filter_depth} deep")
        for name in _COLUMNS:
            operators = getattr(self, name)
            if operators is not None:
                operators.checked((*path, name), limits)
        if self.sequence is not None:
            self.sequence.checked((*path, "sequence"), limits)
        check_predicates((*path, "metadata"), self.metadata, limits)
        if self.search is not None:
            check_text((*path, "search"), self.search)
            check_size((*path, "search"), self.search, limits.summary_bytes)
        for name, branches in (("and", self.and_), ("or", self.or_)):
            check_count((*path, name), branches, limits)
            for position, branch in enumerate(branches or ()):
                branch.checked(limits, (*path, name, position), depth + 1)
        if self.not_ is not None:
            self.not_.checked(limits, (*path, "not"), depth + 1)
        return self

    def operands(self, scope: str = "where") -> Operands:
        """Yield the values by name; the names are the filter's shape."""
        for name in _COLUMNS:
            operators = getattr(self, name)
            if operators is not None:
                yield scoped(scope, name), None
                yield from operators.operands(scoped(scope, name))
        if self.sequence is not None:
            yield scoped(scope, "sequence"), None
            yield from self.sequence.operands(scoped(scope, "sequence"))
        yield from predicate_operands(self.metadata, scoped(scope, "metadata"))
        if self.search is not None:
            yield scoped(scope, "search"), _web_search(self.search)
        for kind, branches in (
            ("and", self.and_),
            ("or", self.or_),
            ("not", None if self.not_ is None else [self.not_]),
        ):
            if branches is not None:
                yield scoped(scope, f"{kind}{len(branches)}"), None
                for position, branch in enumerate(branches):
                    yield from branch.operands(scoped(scope, f"{kind}{position}"))

    def condition(self, scope: str = "where") -> Condition:
        """Translate into one condition on `AuditEvent`, whose values `operands` names."""
        found: list[Condition] = []
        for name, column in _COLUMNS.items():
            operators = getattr(self, name)
            if operators is not None:
                found.extend(operators.conditions(column, scoped(scope, name)))
        if self.sequence is not None:
            found.append(_sealed(self.sequence, scoped(scope, "sequence")))
        found.extend(predicate_conditions(self.metadata, AuditEvent.event_metadata, scoped(scope, "metadata")))
        if self.search is not None:
            query = func.websearch_to_tsquery(_SIMPLE, operand(scope, "search", Text()))
            found.append(AuditEvent.search_vector.op("@@", is_comparison=True)(query))
        if self.and_ is not None:
            found.append(all_of(_conditions(self.and_, scoped(scope, "and"))))
        if self.or_ is not None:
            found.append(any_of(_conditions(self.or_, scoped(scope, "or"))))
        if self.not_ is not None:
            found.append(negation(self.not_.condition(scoped(scope, "not0"))))
        return all_of(found)

    def index_key(self) -> "IndexKey | None":
        """Return what the search index may be asked for, so that no matching event is missed; `None` for nothing."""
        words = documents = None
        for part in self.conjuncts():
            if words is None and part.search is not None:
                words = _web_search(part.search)
            for predicate in part.metadata or () if documents is None else ():
                documents = predicate.documents()
                if documents is not None:
                    break
        if words is None and documents is None:
            return None
        others = (*(getattr(self, name) for name in _COLUMNS), self.sequence, self.and_, self.or_, self.not_)
        return IndexKey(documents, words, is_all=all(other is None for other in others))

    def conjuncts(self) -> "Iterator[AuditEventFilter]":
        """Yield the filters all of which must hold: itself, and what lies in its `and`."""
        yield self
        for branch in self.and_ or ():
            yield from branch.conjuncts()


@dataclass(frozen=True, slots=True)
class IndexKey:
    """What `audit_event_candidates` takes: JSON documents, one of which the metadata holds, and a web search.

    `is_all` when the filter says nothing of other columns.
    """

    documents: Sequence[str] | None
    words: str | None
    is_all: bool


def _web_search(text: str) -> str:
    """Return a search that means the same and never fails: PostgreSQL gives up at the 33rd minus without a word."""
    return _EMPTY_MINUS.sub("", text)


_EMPTY_MINUS = re.compile(r"-[^\w\"]*(?=-)")

# Words as they are, in whatever language.
_SIMPLE: Any = literal_column("'simple'::regconfig")


def _sealed(places: RangeFilter[int], scope: str) -> Condition:
    """Return the condition that an event is in the log, at one of these places."""
    in_log = select(AuditLogLeaf.event_created_at, AuditLogLeaf.event_id)
    in_log = in_log.where(*places.conditions(AuditLogLeaf.sequence, scope))
    return tuple_(AuditEvent.created_at, AuditEvent.id).in_(in_log)


def _conditions(branches: Sequence[AuditEventFilter], scope: str) -> list[Condition]:
    return [branch.condition(f"{scope}{position}") for position, branch in enumerate(branches)]
