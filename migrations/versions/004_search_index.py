"""Finding events by what lies in their metadata and by the words of their texts, through an index.

Under row level security an operator that is not leakproof (`@>` on jsonb, `@@` on tsvector) can't be an index
condition: the whole tenant would be read. So one function looks the candidates up as the owner of the table, with the
tenant of the session bound inside; it takes values only and returns nothing but times and ids. The query that uses it
runs as the runtime role, under row level security and with the exact conditions: whatever the function returned, no
other tenant's event could come out.

An old server knows neither the column nor the function and is not affected, but for inserts that cost more. The column
is added to the events that are there already by rewriting their partitions, which takes some ten seconds a million
events and locks the table meanwhile.
"""

from alembic import op

from migrations.tenant_policies import narrow_definer_function

revision = "004"
down_revision = "003"
branch_labels = None
depends_on = None

_FUNCTION = "audit_event_candidates(jsonb[], text, integer)"


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS btree_gin")
    # Kept with the row: computing it again for each row that a query looks at would cost twenty times as much.
    op.execute(
        """
        ALTER TABLE audit_events ADD COLUMN search_vector tsvector GENERATED ALWAYS AS (
            to_tsvector('simple'::regconfig, COALESCE(action_name, '') || ' ' || COALESCE(input_summary, '') || ' '
                        || COALESCE(output_summary, '') || ' ' || COALESCE(error, ''))) STORED
        """
    )
    op.execute(
        "CREATE INDEX audit_events_search_idx ON audit_events"
        " USING gin (tenant_id, metadata jsonb_path_ops, search_vector)"
    )
    op.execute("CREATE POLICY owner_search ON audit_events FOR SELECT TO CURRENT_USER USING (true)")
    _create_function()


def _create_function() -> None:
    # Of all plans only those that read the index are of use, so the others are switched off inside.
    op.execute(
        """
        CREATE FUNCTION audit_event_candidates(documents jsonb[], words text, most integer)
        RETURNS TABLE (created_at timestamptz, id uuid)
        LANGUAGE plpgsql STABLE SECURITY DEFINER
        SET enable_seqscan = off SET enable_indexscan = off SET enable_indexonlyscan = off
        AS $$
        DECLARE
            query tsquery := websearch_to_tsquery('simple'::regconfig, words);
        BEGIN
            IF words IS NULL THEN
                RETURN QUERY SELECT e.created_at, e.id
                FROM unnest(documents) AS d (document) JOIN audit_events e ON e.metadata @> d.document
                WHERE e.tenant_id = current_tenant() LIMIT most;
            ELSIF documents IS NULL THEN
                RETURN QUERY SELECT e.created_at, e.id FROM audit_events e
                WHERE e.tenant_id = current_tenant() AND e.search_vector @@ query LIMIT most;
            ELSE
                RETURN QUERY SELECT e.created_at, e.id
                FROM unnest(documents) AS d (document) JOIN audit_events e ON e.metadata @> d.document
                WHERE e.tenant_id = current_tenant() AND e.search_vector @@ query LIMIT most;
            END IF;
        END $$
        """
    )
    narrow_definer_function(_FUNCTION)


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {_FUNCTION}")
    op.execute("DROP POLICY owner_search ON audit_events")
    op.execute("DROP INDEX audit_events_search_idx")
    op.execute("ALTER TABLE audit_events DROP COLUMN search_vector")
    # The extension stays: it may have been there before.
