"""The orders in which the trail is listed: by one column, then by id, so that every event has one place."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import InstrumentedAttribute

from app.models import AuditEvent
from app.pagination import Keyset, Position


class OrderField(StrEnum):
    """What a list is ordered by."""

    CREATED_AT = "created_at"
    LATENCY_MS = "latency_ms"
    COST_USD = "cost_usd"


@dataclass(frozen=True, slots=True)
class EventOrder:
    """An order; events without the value count as less than all others."""

    field: OrderField = OrderField.CREATED_AT
    descending: bool = True

    @property
    def column_name(self) -> str:
        """The attribute of `AuditEvent` that holds what is compared."""
        return _COLUMNS[self.field]

    @property
    def column(self) -> InstrumentedAttribute[Any]:
        """The column that is compared."""
        column: InstrumentedAttribute[Any] = getattr(AuditEvent, self.column_name)
        return column

    def keyset(self, *identity: object) -> Keyset[Mapping[str, Any]]:
        """Return the pages of a list in this order, whose rows hold the column and the id."""
        name = self.column_name
        if self.field is OrderField.CREATED_AT:
            return Keyset(
                position_of=lambda row: Position.at_time(row[name], row["id"]),
                key_from=lambda position: position.time,
                descending=self.descending,
                identity=identity,
            )
        return Keyset(
            position_of=lambda row: Position(row[name], row["id"]),
            key_from=lambda position: min(max(position.key, -1), _GREATEST[self.field]),
            descending=self.descending,
            identity=(*identity, self.field.value),
        )


_COLUMNS = {
    OrderField.CREATED_AT: "created_at",
    OrderField.LATENCY_MS: "latency_key",
    OrderField.COST_USD: "cost_key",
}

_GREATEST = {OrderField.LATENCY_MS: 2**31 - 1, OrderField.COST_USD: 2**63 - 1}

NEWEST_FIRST = EventOrder()
