"""API keys, and the one narrow function through which the runtime role looks a key up.

An old server does not know the table and is not affected.
"""

from alembic import op

from migrations.roles import RUNTIME_ROLE
from migrations.tenant_policies import isolate_tenants

revision = "002"
down_revision = "001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE api_keys (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            name text COLLATE "C" NOT NULL,
            key_prefix text COLLATE "C" NOT NULL,
            key_hash bytea NOT NULL,
            scopes text[] NOT NULL,
            agent_id uuid,
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz,
            revoked_at timestamptz,
            CONSTRAINT api_keys_pkey PRIMARY KEY (tenant_id, id),
            CONSTRAINT api_keys_key_hash_check CHECK (octet_length(key_hash) = 32)
        )
        """
    )
    op.execute("CREATE UNIQUE INDEX api_keys_key_hash_key ON api_keys (key_hash)")
    op.execute(
        "ALTER TABLE api_keys ADD CONSTRAINT api_keys_tenants_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id)"
    )
    isolate_tenants("api_keys")
    # A key is looked up before its tenant is known. The owner, as whom the function runs, may therefore read all
    # keys; the runtime role has no privilege on the table at all.
    op.execute("CREATE POLICY owner_lookup ON api_keys FOR SELECT TO CURRENT_USER USING (true)")
    op.execute(
        """
        CREATE FUNCTION find_api_key(hash bytea)
        RETURNS TABLE (id uuid, tenant_id uuid, tenant_name text, name text, scopes text[], agent_id uuid,
                       expires_at timestamptz)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        BEGIN ATOMIC
            SELECT k.id, k.tenant_id, t.name, k.name, k.scopes, k.agent_id, k.expires_at
            FROM api_keys k JOIN tenants t ON t.id = k.tenant_id
            WHERE k.key_hash = hash AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now());
        END
        """
    )
    op.execute("REVOKE ALL ON FUNCTION find_api_key(bytea) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION find_api_key(bytea) TO {RUNTIME_ROLE}")


def downgrade() -> None:
    op.execute("DROP FUNCTION find_api_key(bytea)")
    op.execute("DROP TABLE api_keys")
