"""By what events are grouped: columns with few enough values to be told apart on a page."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement

from app.errors import InvalidInput
from app.models import AuditEvent


class Dimension(StrEnum):
    """A column that events are grouped by, under the attribute's name."""

    AGENT_ID = "agent_id"
    ACTION_TYPE = "action_type"
    ACTION_NAME = "action_name"
    STATUS = "status"
    USER_ID = "user_id"

    @property
    def column(self) -> ColumnElement[Any]:
        """The column, under its name."""
        column: ColumnElement[Any] = getattr(AuditEvent, self.value).label(self.value)
        return column

    def shown(self, value: Any) -> str | None:
        """Return a value of the column as text; a closed set's by its name in the API, such as LLM_CALL."""
        if value is None:
            return None
        return str(value).upper() if self in _CLOSED else str(value)


_CLOSED = {Dimension.ACTION_TYPE, Dimension.STATUS}


def check_dimensions(argument: str, dimensions: Sequence[Dimension], *, most: int) -> tuple[Dimension, ...]:
    """Return the dimensions; raise `InvalidInput` when there are too many or one is given twice."""
    if len(dimensions) > most:
        raise InvalidInput((argument,), f"must hold at most {most} dimensions, got {len(dimensions)}")
    if len(set(dimensions)) < len(dimensions):
        raise InvalidInput((argument,), "must not hold a dimension twice")
    return tuple(dimensions)


def check_group_limit(limit: int, most: int) -> int:
    """Return how many groups are wanted; raise `InvalidInput` when that is impossible or too many."""
    if not 1 <= limit <= most:
        raise InvalidInput(("limit",), f"must be between 1 and {most}, got {limit}")
    return limit
