"""How a table with tenant rows is locked: one text for all, applied in the revision that creates the table."""

from alembic import op

RUNTIME_ROLE = "konstruct_app"


def isolate_tenants(table: str, *, column: str = "tenant_id", force: bool = True) -> None:
    """Enable row level security with the one tenant policy; `force` subjects the owner to it as well."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    if force:
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant_isolation ON {table}"
        f" USING ({column} = current_tenant()) WITH CHECK ({column} = current_tenant())"
    )


def grant_to_runtime(privileges: str, table: str) -> None:
    """Grant the server's role what it needs on a table; it never owns one."""
    op.execute(f"GRANT {privileges} ON {table} TO {RUNTIME_ROLE}")
