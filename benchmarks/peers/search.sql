-- What PostGraphile needs to offer a vector search: a function, as its users would write it.
CREATE SCHEMA IF NOT EXISTS bench;
CREATE OR REPLACE FUNCTION bench.search_chunks(query real[], k integer) RETURNS SETOF kb_chunks LANGUAGE sql STABLE AS $$
    SELECT * FROM kb_chunks ORDER BY embedding <=> query::vector LIMIT k
$$;
GRANT USAGE ON SCHEMA bench TO konstruct_app;
GRANT EXECUTE ON FUNCTION bench.search_chunks TO konstruct_app;
