-- What PostGraphile needs beside the tables, as its users would write it: a function for each query that its own
-- fields can't express.
CREATE SCHEMA IF NOT EXISTS bench;

CREATE OR REPLACE FUNCTION bench.search_chunks(query real[], k integer) RETURNS SETOF kb_chunks LANGUAGE sql STABLE AS $$
    SELECT * FROM kb_chunks WHERE tenant_id = current_tenant()
    ORDER BY embedding_half <=> query::halfvec LIMIT k
$$;

CREATE OR REPLACE FUNCTION bench.event_stats(since timestamptz) RETURNS TABLE (
    action_name text, count bigint, failed_count bigint, latency_p50 double precision, latency_p95 double precision,
    cost_usd numeric
) LANGUAGE sql STABLE AS $$
    SELECT action_name, count(*), count(*) FILTER (WHERE status = 'failed'),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_ms),
           percentile_cont(0.95) WITHIN GROUP (ORDER BY latency_ms),
           COALESCE(sum(cost_usd), 0)
    FROM audit_events WHERE created_at >= since GROUP BY action_name
$$;

GRANT USAGE ON SCHEMA bench TO konstruct_app;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA bench TO konstruct_app;
