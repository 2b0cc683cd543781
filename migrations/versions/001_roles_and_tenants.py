"""Runtime role, tenant setting and tenants.

An old server sees nothing of this: it is the first revision.

The runtime role is created when it is missing and the migrating role may create roles; on a managed database where
it may not, the administrator creates it first (the error says how) and this revision only checks it.
"""

from alembic import context, op
from sqlalchemy import text

from migrations.tenant_policies import RUNTIME_ROLE, grant_to_runtime, isolate_tenants

revision = "001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _ensure_runtime_role()
    op.execute(
        """
        CREATE FUNCTION current_tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
        RETURN NULLIF(current_setting('app.current_tenant', true), '')::uuid
        """
    )
    # On a sharded database the setting must reach the shards; elsewhere that option does not exist.
    op.execute(
        """
        CREATE FUNCTION set_tenant(tenant uuid) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            IF tenant IS NULL THEN
                RAISE EXCEPTION 'a tenant session needs a tenant' USING ERRCODE = 'null_value_not_allowed';
            END IF;
            IF current_setting('citus.propagate_set_commands', true) IS NOT NULL THEN
                PERFORM set_config('citus.propagate_set_commands', 'local', true);
            END IF;
            PERFORM set_config('app.current_tenant', tenant::text, true);
        END $$
        """
    )
    op.execute(
        """
        CREATE TABLE tenants (
            id uuid NOT NULL,
            name text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT tenants_pkey PRIMARY KEY (id)
        )
        """
    )
    # Not forced: foreign keys to this table are checked as its owner, on every kind of cluster.
    isolate_tenants("tenants", column="id", force=False)
    op.execute(f"GRANT USAGE ON SCHEMA {_schema()} TO {RUNTIME_ROLE}")
    grant_to_runtime("SELECT", "tenants")
    # Readiness compares the revision with the one that the server was built for.
    grant_to_runtime("SELECT", "alembic_version")


def downgrade() -> None:
    op.execute("DROP TABLE tenants")
    op.execute("DROP FUNCTION set_tenant(uuid)")
    op.execute("DROP FUNCTION current_tenant()")
    op.execute(f"REVOKE SELECT ON alembic_version FROM {RUNTIME_ROLE}")
    # The role stays: it belongs to the cluster and other databases may use it.


def _schema() -> str:
    if context.is_offline_mode():
        return "public"
    return str(op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one())


def _ensure_runtime_role() -> None:
    verifier = context.config.attributes.get("runtime_password_verifier")
    password = f"PASSWORD '{verifier}'" if verifier else ""
    attributes = f"LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOREPLICATION {password}"
    # A role is the cluster's: another database's migration may create it at the same moment.
    create = f"""
        DO $do$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{RUNTIME_ROLE}') THEN
                CREATE ROLE {RUNTIME_ROLE} {attributes};
            END IF;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'the role {RUNTIME_ROLE} does not exist and % may not create it', current_user
                USING HINT = 'As an administrator run:'
                    ' CREATE ROLE {RUNTIME_ROLE} LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD ''...'';';
        END $do$
    """
    # A verifier holds colons, which Alembic would read as the start of a bind parameter.
    op.execute(create.replace(":", r"\:"))
    op.execute(
        f"""
        DO $do$ BEGIN
            IF EXISTS (SELECT FROM pg_catalog.pg_roles
                       WHERE rolname = '{RUNTIME_ROLE}' AND (rolsuper OR rolbypassrls)) THEN
                RAISE EXCEPTION 'the role {RUNTIME_ROLE} bypasses row level security'
                USING HINT = 'As an administrator run: ALTER ROLE {RUNTIME_ROLE} NOSUPERUSER NOBYPASSRLS;';
            END IF;
        END $do$
        """
    )
