"""Database rows on their way into an answer, without an object each.

A resolver may return `Rows` where its type says a list of objects. Completed in one step (`graphql_schema.execution`)
they become JSON column by column; wherever graphql-core has to complete them itself, each row becomes an object of the
type, which converts a column when it is asked for it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, ClassVar

import orjson

# A row as the database driver gives it: its columns by name.
Row = Mapping[str, Any]


class RowFormat:
    """How rows of one table stand for objects of one type.

    `columns` names the column of each attribute. `to_attribute` converts a column's value into what the attribute
    holds, `to_json` into what stands in the answer; a value without a converter is both already. Neither sees NULL.
    """

    def __init__(
        self,
        columns: Mapping[str, str],
        *,
        to_attribute: Mapping[str, Callable[[Any], Any]],
        to_json: Mapping[str, Callable[[Any], Any]],
    ) -> None:
        self.columns = columns
        self.to_attribute = to_attribute
        self._to_json = to_json

    def completer(self, parts: Sequence[tuple[str, str | None, str]]) -> Callable[[Row], dict[str, Any]]:
        """Compile the answer for one row from (response key, attribute, constant where there is no attribute)."""
        keys = [key for key, _, _ in parts]
        attributes = [attribute for _, attribute, _ in parts if attribute is not None]
        read = _reader([self.columns[attribute] for attribute in attributes])
        constants = [(place, constant) for place, (_, attribute, constant) in enumerate(parts) if attribute is None]
        conversions = [
            (place, self._to_json[attribute])
            for place, (_, attribute, _) in enumerate(parts)
            if attribute is not None and attribute in self._to_json
        ]

        def complete(row: Row) -> dict[str, Any]:
            values = read(row)
            for place, constant in constants:
                values.insert(place, constant)
            for place, convert in conversions:
                value = values[place]
                if value is not None:
                    values[place] = convert(value)
            return dict(zip(keys, values, strict=True))

        return complete


def _reader(columns: Sequence[str]) -> Callable[[Row], list[Any]]:
    if len(columns) < 2:
        return lambda row: [row[column] for column in columns]
    read = itemgetter(*columns)
    return lambda row: [*read(row)]


class RowObject:
    """Mixed into a type's class: an object that reads its attributes from a row when they are asked for."""

    row_format: ClassVar[RowFormat]
    row: Row

    @classmethod
    def from_row(cls, row: Row) -> Any:
        """Show a row."""
        shown = cls.__new__(cls)
        shown.row = row
        return shown

    def __getattr__(self, name: str) -> Any:
        row_format = type(self).row_format
        if name not in row_format.columns:
            raise AttributeError(name)
        value = self.row[row_format.columns[name]]
        convert = row_format.to_attribute.get(name)
        return value if value is None or convert is None else convert(value)


class WrittenList(list[Any]):
    """A list that the database has written as JSON already, for exactly the selection that is being completed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.answer = orjson.Fragment(text.encode())


class Rows(list[Any]):
    """Rows that stand for a list of objects of `row_class`."""

    def __init__(self, rows: Iterable[Row], row_class: type[RowObject]) -> None:
        super().__init__(rows)
        self.row_class = row_class

    def objects(self) -> list[Any]:
        """Return an object for each row."""
        return [self.row_class.from_row(row) for row in self]
