"""Compiled statements: how many are kept, and what a failure of the driver means."""

import asyncpg
import pytest
from asyncpg.exceptions._base import DataError as UnsendableValue
from cachetools import cached
from sqlalchemy import select

from app.database.failures import translate
from app.database.statements import Statement, compile_statement, statement_cache
from app.errors import TransactionLost
from app.models import AuditEvent


def test_cache_is_bounded_by_the_text_it_holds() -> None:
    """Long statements push each other out, one that is too long is compiled each time, and short ones stay."""
    made: list[int] = []

    @cached(statement_cache())
    def statement(number: int, length: int) -> Statement:
        made.append(number)
        return Statement(sql="x" * length, names=(), constants={})

    for _ in range(2):
        for number in range(50):
            statement(number, 100)
    assert len(made) == 50
    for number in range(100, 140):
        statement(number, 100_000)
    made.clear()
    statement(139, 100_000)
    statement(100, 100_000)
    assert made == [100]
    made.clear()
    for _ in range(2):
        statement(1000, 10_000_000)
    assert made == [1000, 1000]


def test_lists_are_no_part_of_a_statements_text() -> None:
    """IN with a list would make a text of its own for each length, so it is refused."""
    with pytest.raises(TypeError, match="ANY"):
        compile_statement(select(AuditEvent.id).where(AuditEvent.action_name.in_(["a", "b"])))


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (asyncpg.InterfaceError("connection is closed"), True),
        (asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"), True),
        (UnsendableValue("invalid input for query argument $1"), False),
        (asyncpg.DataError("invalid input for query argument $1"), False),
        (asyncpg.CheckViolationError("new row violates check constraint"), False),
    ],
)
def test_a_value_that_cannot_be_sent_is_no_lost_connection(error: asyncpg.PostgresError, is_lost: bool) -> None:
    """Only after a lost connection may the whole transaction be run again."""
    assert isinstance(translate(error), TransactionLost) == is_lost
