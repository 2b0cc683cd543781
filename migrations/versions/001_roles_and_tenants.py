"""Runtime role, tenant setting and tenants.

An old server sees nothing of this: it is the first revision.

The runtime role is created when it is missing and the migrating role may create roles; on a managed database where
it may not, the administrator creates it first (the error says how) and this revision only checks it.
"""

from alembic import context, op

from migrations.roles import RUNTIME_ROLE, current_schema, ensure_role
from migrations.tenant_policies import grant_to_runtime, isolate_tenants

revision = "001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    ensure_role(RUNTIME_ROLE, context.config.attributes.get("runtime_password_verifier"))
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
    op.execute(f"GRANT USAGE ON SCHEMA {current_schema()} TO {RUNTIME_ROLE}")
    grant_to_runtime("SELECT", "tenants")
    # Readiness compares the revision with the one that the server was built for.
    grant_to_runtime("SELECT", "alembic_version")


def downgrade() -> None:
    op.execute("DROP TABLE tenants")
    op.execute("DROP FUNCTION set_tenant(uuid)")
    op.execute("DROP FUNCTION current_tenant()")
    op.execute(f"REVOKE SELECT ON alembic_version FROM {RUNTIME_ROLE}")
    # The role stays: it belongs to the cluster and other databases may use it.
