"""The roles that the product logs in as, beside the owner: none owns a table or gets around row level security."""

from alembic import context, op
from sqlalchemy import text

# The server: reads and writes what row level security shows it.
RUNTIME_ROLE = "konstruct_app"
# The sealer: reads all events, writes the log.
SEALER_ROLE = "konstruct_sealer"


def current_schema() -> str:
    """Return the schema that the tables are in, quoted."""
    if context.is_offline_mode():
        return "public"
    return str(op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one())


def ensure_role(role: str, verifier: str | None) -> None:
    """Create a role that may do nothing by itself, unless it is there, and check that it can't bypass the policies.

    `verifier` is its password as PostgreSQL stores it.
    """
    password = f"PASSWORD '{verifier}'" if verifier else ""
    attributes = f"LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOREPLICATION {password}"
    # A role is the cluster's: another database's migration may create it at the same moment.
    create = f"""
        DO $do$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{role}') THEN
                CREATE ROLE {role} {attributes};
            END IF;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'the role {role} does not exist and % may not create it', current_user
                USING HINT = 'As an administrator run:'
                    ' CREATE ROLE {role} LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD ''...'';';
        END $do$
    """
    # A verifier holds colons, which Alembic would read as the start of a bind parameter.
    op.execute(create.replace(":", r"\:"))
    op.execute(
        f"""
        DO $do$ BEGIN
            IF EXISTS (SELECT FROM pg_catalog.pg_roles
                       WHERE rolname = '{role}' AND (rolsuper OR rolbypassrls)) THEN
                RAISE EXCEPTION 'the role {role} bypasses row level security'
                USING HINT = 'As an administrator run: ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS;';
            END IF;
        END $do$
        """
    )
