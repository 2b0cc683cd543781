"""Ordering events by latency and by cost, through an index.

An event without a value counts as less than all others. Row level security lets a comparison of `numeric` neither into
an index condition nor before its own check, so the cost is kept once more as a whole number of picodollars, which are
the 12 decimal places that a cost may have.

An old server knows neither column and is not affected. The columns are added to the events that are there already by
rewriting their partitions, which takes some ten seconds a million events and locks the table meanwhile.
"""

from alembic import op

revision = "005"
down_revision = "004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE audit_events
            ADD COLUMN latency_key integer GENERATED ALWAYS AS (COALESCE(latency_ms, -1)) STORED,
            ADD COLUMN cost_key bigint GENERATED ALWAYS AS (
                CASE WHEN cost_usd IS NULL THEN -1
                ELSE LEAST(cost_usd * 1000000000000, 9223372036854775807)::bigint END) STORED
        """
    )
    op.execute("CREATE INDEX audit_events_latency_idx ON audit_events (tenant_id, latency_key, id)")
    op.execute("CREATE INDEX audit_events_cost_idx ON audit_events (tenant_id, cost_key, id)")


def downgrade() -> None:
    op.execute("DROP INDEX audit_events_cost_idx")
    op.execute("DROP INDEX audit_events_latency_idx")
    op.execute("ALTER TABLE audit_events DROP COLUMN cost_key, DROP COLUMN latency_key")
