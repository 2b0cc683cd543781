"""Answers for people and for scripts."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

console = Console()
# Columns enough for any row, for programs that read lines.
_ONE_LINE = 10_000
# What is said beside the answer, which may go into a file.
errors = Console(stderr=True)


def progress_bar(shown_on: Console, *, disable: bool) -> Progress:
    """Return the bar of a long piece of work: what is done of what there is, and how long the rest takes."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=shown_on, disable=disable,
    )  # fmt: skip


def print_json(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Print one line of JSON; ids and times become text."""
    print(json.dumps(value, default=_as_text), flush=True)


def print_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str) -> None:
    """Print rows as a table, or as JSON on request. Where no terminal sets a width, each row is one line."""
    if as_json:
        print_json(rows)
        return
    if not rows:
        console.print(empty)
        return
    table = Table()
    for name in rows[0]:
        # An id must be there in one piece to be copied; everything else may be folded to fit.
        table.add_column(name, no_wrap=name == "id", overflow="fold", min_width=36 if name == "id" else None)
    for row in rows:
        table.add_row(*("" if value is None else _as_text(value) for value in row.values()))
    wide = console if console.is_terminal else Console(width=_ONE_LINE)
    wide.print(table)


def _as_text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
