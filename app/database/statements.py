"""Statements that are compiled once from the shared ORM and then run on a session's own driver connection.

For queries of a fraction of a millisecond, building and compiling a SELECT through SQLAlchemy costs several times what
PostgreSQL takes to answer it. A `Statement` is the SQL text of a query over the shared ORM, with named values: it is
built once a shape of query, kept in a bounded cache by who builds it, and run with `TenantSession.fetch`. PostgreSQL
sees the same text each time, so that the driver's prepared statement serves it.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cachetools import LRUCache
from sqlalchemy import Delete, Dialect, Insert, Select, Update, Uuid, bindparam
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.orm import with_loader_criteria
from sqlalchemy.sql.base import ExecutableOption

from app.database.tenant_owned import TenantOwned
from app.validation import JsonText

_TENANT = "tenant_id"
_DIALECT: Dialect = asyncpg_dialect(json_serializer=str, json_deserializer=JsonText)  # type: ignore[no-untyped-call]


def of_tenant(tenant: UUID) -> ExecutableOption:
    """Return the option that adds `tenant_id = :tenant` for every `TenantOwned` class of a statement."""
    return with_loader_criteria(TenantOwned, lambda owned: owned.tenant_id == tenant, include_aliases=True)


def _of_the_sessions_tenant() -> ExecutableOption:
    # The same predicate with the tenant left open (SQLAlchemy knows a lambda by its code: it can't be one function).
    tenant = bindparam(_TENANT, type_=Uuid())
    return with_loader_criteria(TenantOwned, lambda owned: owned.tenant_id == tenant, include_aliases=True)


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with numbered parameters, and the names of the values that go into them, as the driver takes them."""

    sql: str
    names: tuple[str, ...]
    constants: Mapping[str, Any]

    def arguments(self, tenant_id: UUID, values: Mapping[str, Any]) -> list[Any]:
        """Return the values in the order of the parameters; raise `KeyError` for a missing one."""
        known = {_TENANT: tenant_id, **self.constants, **values}
        return [known[name] for name in self.names]


def statement_cache() -> "LRUCache[Hashable, Statement]":
    """Return a cache of statements by their shape; clients choose shapes, so it is bounded by the text it holds."""
    return LRUCache(_CACHED_TEXT, getsizeof=lambda statement: _ENTRY_TEXT + len(statement.sql))


# Characters: some hundreds of usual statements; one that is too long for the whole is compiled each time.
_CACHED_TEXT = 2 * 1024 * 1024
_ENTRY_TEXT = 1024


def compile_statement(statement: Select[*tuple[Any, ...]] | Update | Delete | Insert) -> Statement:
    """Compile a query over the shared ORM, restricted to the tenant of the session that will run it.

    An INSERT names the tenant as the value `tenant_id`. Named values (`bindparam("name")`) are given at each run;
    literal ones are constants of the statement.
    """
    if not isinstance(statement, Insert):
        statement = statement.options(_of_the_sessions_tenant())
    compiled: Any = statement.compile(dialect=_DIALECT)
    if "POSTCOMPILE" in compiled.string:
        raise TypeError("a list can't be part of the text of a compiled statement; compare with = ANY(:list)")
    required = {bind.key for bind in compiled.bind_names if bind.required}
    return Statement(
        sql=compiled.string,
        names=tuple(compiled.positiontup),
        constants={name: value for name, value in compiled.params.items() if name not in required},
    )
