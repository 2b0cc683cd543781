"""The trail as a file: the sealed events in the order of the log, as JSON lines or CSV.

An export reads stretch by stretch, each in a session of its own, so that it takes the same memory for a thousand events
as for a billion and keeps no transaction open while its reader is slow. The order is that of commits: whoever goes on
after the last `sequence` of a file that broke off gets exactly the rest.
"""

import csv
import io
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from asyncpg import Record
from cachetools import cached
from sqlalchemy import BigInteger, Text, cast, func, literal_column, select

from app.audit.filter import AuditEventFilter
from app.audit.log_order import Stride, in_log_order, log_size
from app.audit.representation import JsonMember, json_columns
from app.database.database import Database
from app.database.statements import Statement, compile_statement, statement_cache
from app.database.tenant_owned import TenantId
from app.errors import InvalidInput
from app.settings import Limits

_BATCH = 500

# The names are those of the API; a spreadsheet shows the first ones without scrolling.
_FIELDS = {
    "sequence": "sequence",
    "createdAt": "created_at",
    "id": "id",
    "actionType": "action_type",
    "actionName": "action_name",
    "status": "status",
    "agentId": "agent_id",
    "userId": "user_id",
    "sessionId": "session_id",
    "traceId": "trace_id",
    "parentEventId": "parent_event_id",
    "inputSummary": "input_summary",
    "outputSummary": "output_summary",
    "error": "error",
    "latencyMs": "latency_ms",
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "costUsd": "cost_usd",
    "metadata": "event_metadata",
    "occurredAt": "occurred_at",
    "submittedBy": "submitted_by",
}
_MEMBERS = [JsonMember(name, attribute) for name, attribute in _FIELDS.items()]
# What clients wrote, as they liked.
_FREE_TEXTS = frozenset(
    {"actionName", "userId", "sessionId", "traceId", "inputSummary", "outputSummary", "error", "submittedBy"}
)

# What a spreadsheet would take for the beginning of a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

_STATEMENTS = statement_cache()


class ExportFormat(StrEnum):
    """How the events are written."""

    NDJSON = "ndjson"
    CSV = "csv"

    @property
    def media_type(self) -> str:
        """The format's media type."""
        return {"ndjson": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}[self.value]


@dataclass(frozen=True, slots=True)
class ExportPart:
    """Some whole lines in UTF-8, how many events they are, and the place of the log up to which they go."""

    text: bytes
    events: int
    place: int


@dataclass(frozen=True, slots=True)
class Export:
    """An export that is about to begin: it ends where the log ended when it was asked for."""

    database: Database
    tenant_id: TenantId
    where: AuditEventFilter
    format: ExportFormat
    after: int
    end: int

    @property
    def places(self) -> int:
        """How many places of the log there are to look at."""
        return max(self.end - self.after, 0)

    async def parts(self) -> AsyncGenerator[ExportPart, None]:
        """Yield the export part by part. A CSV begins with its header, unless it goes on with an earlier one."""
        if self.format is ExportFormat.CSV and self.after < 0:
            yield ExportPart(_csv([list(_FIELDS)]), 0, self.after)
        values = dict(self.where.operands())
        place, stride = self.after, Stride(_BATCH)
        while place < self.end:
            stretch_end = stride.end(place, self.end)
            statement = _statement((tuple(values), self.format), self.where)
            async with self.database.reading_session(self.tenant_id) as session:
                rows = await session.fetch(statement, {**values, "place": place, "end": stretch_end})
            place = stretch_end if len(rows) < _BATCH else int(rows[-1]["sequence"])
            stride.found(len(rows))
            written = _json_lines(rows) if self.format is ExportFormat.NDJSON else _csv_lines(rows)
            yield ExportPart(written, len(rows), place)


async def begin_export(
    database: Database,
    tenant_id: TenantId,
    where: AuditEventFilter,
    limits: Limits,
    *,
    format: ExportFormat = ExportFormat.NDJSON,  # noqa: A002 - the field's name
    after: int = -1,
) -> Export:
    """Check what is asked for and find the end of the log.

    Raises `InvalidInput` for an impossible filter or place.
    """
    where.checked(limits)
    if not -1 <= after < 2**63:
        raise InvalidInput(("after",), "must be the last sequence of the part you have, or -1 for all")
    async with database.reading_session(tenant_id) as session:
        size = await log_size(session)
    return Export(database, tenant_id, where, format, after, size - 1)


@cached(_STATEMENTS, key=lambda shape, _where: shape)
def _statement(shape: tuple[tuple[str, ...], ExportFormat], where: AuditEventFilter) -> Statement:
    page = in_log_order([*_FIELDS.values()], where, _BATCH).cte("page")
    event = select(*json_columns(page, _MEMBERS)).select_from(page).subquery("event")
    if shape[1] is ExportFormat.CSV:
        query = select(event)
    else:
        query = select(cast(func.row_to_json(literal_column("event")), Text()).label("line"), event.c.sequence)
        query = query.select_from(event)
    return compile_statement(query.order_by(cast(event.c.sequence, BigInteger())))


def _json_lines(rows: Sequence[Record]) -> bytes:
    return "".join(f"{row['line']}\n" for row in rows).encode()


def _csv_lines(rows: Sequence[Record]) -> bytes:
    return _csv([[_cell(name, row[name]) for name in _FIELDS] for row in rows])


def _cell(name: str, value: Any) -> Any:
    """Return a value as a spreadsheet may have it: a text that looks like a formula is marked as text."""
    if isinstance(value, str) and name in _FREE_TEXTS and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
