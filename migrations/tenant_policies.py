"""How a table with tenant rows is locked: one text for all, applied in the revision that creates the table."""

from alembic import op

from migrations.roles import RUNTIME_ROLE, SEALER_ROLE


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


def open_to_sealer(table: str, privileges: str, *, reading: bool = False) -> None:
    """Let the sealer see the rows of all tenants, and, unless it is only `reading`, write them."""
    policy = "FOR SELECT" if reading else ""
    check = "USING (true)" if reading else "USING (true) WITH CHECK (true)"
    op.execute(f"CREATE POLICY sealer ON {table} {policy} TO {SEALER_ROLE} {check}")
    op.execute(f"GRANT {privileges} ON {table} TO {SEALER_ROLE}")


def narrow_definer_function(signature: str) -> None:
    """Let only the server's role call a SECURITY DEFINER function, and keep its caller from choosing what it means."""
    # Names are looked up where the revision put them, whatever the caller's search_path holds.
    op.execute(
        f"""
        DO $do$ BEGIN
            EXECUTE format('ALTER FUNCTION {signature} SET search_path = pg_catalog, %I, pg_temp', current_schema());
        END $do$
        """
    )
    op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO {RUNTIME_ROLE}")
