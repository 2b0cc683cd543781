"""The sealed log: each committed event gets a place in its tenant's log, and the hash that it will be proven by.

A role of its own, konstruct_sealer, reads all events and writes the log; the server's role only reads it. Leaves are
insert-only, like events. The cursor is the sealer's own: up to where, in the order of transactions, it has seen all.

An old server knows none of these tables and is not affected, but for inserts that keep one index more.
"""

from alembic import context, op

from migrations.roles import RUNTIME_ROLE, SEALER_ROLE, current_schema, ensure_role
from migrations.tenant_policies import grant_to_runtime, isolate_tenants, open_to_sealer

revision = "006"
down_revision = "005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    ensure_role(SEALER_ROLE, context.config.attributes.get("sealer_password_verifier"))
    op.execute(f"GRANT USAGE ON SCHEMA {current_schema()} TO {SEALER_ROLE}")
    _create_leaves()
    _create_states()
    _create_cursor()
    # In the order of transactions, for whoever looks for what is new.
    op.execute("CREATE INDEX audit_events_xid_idx ON audit_events (xid, id)")
    open_to_sealer("audit_events", "SELECT", reading=True)


def _create_leaves() -> None:
    op.execute(
        """
        CREATE TABLE audit_log_leaves (
            tenant_id uuid NOT NULL,
            sequence bigint NOT NULL,
            event_id uuid NOT NULL,
            event_created_at timestamptz NOT NULL,
            leaf_hash bytea NOT NULL,
            CONSTRAINT audit_log_leaves_pkey PRIMARY KEY (tenant_id, sequence),
            CONSTRAINT audit_log_leaves_event_key UNIQUE (tenant_id, event_id),
            CONSTRAINT audit_log_leaves_sequence_check CHECK (sequence >= 0),
            CONSTRAINT audit_log_leaves_leaf_hash_check CHECK (octet_length(leaf_hash) = 32)
        )
        """
    )
    isolate_tenants("audit_log_leaves")
    open_to_sealer("audit_log_leaves", "SELECT, INSERT")
    grant_to_runtime("SELECT", "audit_log_leaves")
    for name, what in (("refuse_row_change", "UPDATE OR DELETE"), ("refuse_change", "UPDATE OR DELETE OR TRUNCATE")):
        each = "ROW" if name == "refuse_row_change" else "STATEMENT"
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {what} ON audit_log_leaves"
            f" FOR EACH {each} EXECUTE FUNCTION refuse_audit_change()"
        )
        op.execute(f"ALTER TABLE audit_log_leaves ENABLE ALWAYS TRIGGER {name}")


def _create_states() -> None:
    op.execute(
        """
        CREATE TABLE audit_log_states (
            tenant_id uuid NOT NULL,
            size bigint NOT NULL,
            CONSTRAINT audit_log_states_pkey PRIMARY KEY (tenant_id),
            CONSTRAINT audit_log_states_size_check CHECK (size >= 0)
        )
        """
    )
    isolate_tenants("audit_log_states")
    open_to_sealer("audit_log_states", "SELECT, INSERT, UPDATE (size)")
    grant_to_runtime("SELECT", "audit_log_states")


def _create_cursor() -> None:
    # No tenant's data: ids of transactions, and when the sealer was last at work, which the server looks at.
    op.execute(
        """
        CREATE TABLE audit_log_cursor (
            is_only boolean NOT NULL DEFAULT true,
            next_xid xid8 NOT NULL,
            next_id uuid NOT NULL,
            pending xid8[] NOT NULL,
            system_identifier bigint NOT NULL,
            swept_at timestamptz NOT NULL,
            worked_at timestamptz NOT NULL,
            CONSTRAINT audit_log_cursor_pkey PRIMARY KEY (is_only),
            CONSTRAINT audit_log_cursor_is_only_check CHECK (is_only)
        )
        """
    )
    op.execute("ALTER TABLE audit_log_cursor ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE audit_log_cursor FORCE ROW LEVEL SECURITY")
    open_to_sealer("audit_log_cursor", "SELECT, INSERT, UPDATE")
    op.execute(f"CREATE POLICY watch ON audit_log_cursor FOR SELECT TO {RUNTIME_ROLE} USING (true)")
    op.execute(f"GRANT SELECT (worked_at) ON audit_log_cursor TO {RUNTIME_ROLE}")


def downgrade() -> None:
    op.execute(f"REVOKE SELECT ON audit_events FROM {SEALER_ROLE}")
    op.execute("DROP POLICY sealer ON audit_events")
    op.execute("DROP INDEX audit_events_xid_idx")
    for table in ("audit_log_cursor", "audit_log_states", "audit_log_leaves"):
        op.execute(f"DROP TABLE {table}")
    op.execute(f"REVOKE USAGE ON SCHEMA {current_schema()} FROM {SEALER_ROLE}")
    # The role stays: it belongs to the cluster and other databases may use it.
