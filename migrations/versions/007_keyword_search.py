"""Finding passages by their words: a text search vector beside the embedding, and an index for it.

The language is fixed here, from the settings, like the length of the vectors: words are cut to their stems by it, in
the passages and in the questions alike. A language that this PostgreSQL does not know becomes `simple`, which compares
words as they are.

Under row level security `@@` can't be an index condition, so candidates are looked up as the owner, with the tenant of
the session bound inside, as in migration 004: the query that uses them runs as the runtime role, under row level
security and with the exact conditions.

An old server knows neither the column nor the functions and is not affected. The column is added to the passages that
are there already by rewriting the table with its vector index, which takes minutes for a million passages and locks the
table meanwhile.
"""

from alembic import context, op

from migrations.tenant_policies import narrow_definer_function

revision = "007"
down_revision = "006"
branch_labels = None
depends_on = None

_FUNCTION = "kb_keyword_candidates(tsquery, text[], uuid[], integer)"


def upgrade() -> None:
    _create_language(context.config.attributes["search_language"])
    op.execute(
        "ALTER TABLE kb_chunks ADD COLUMN search_vector tsvector"
        " GENERATED ALWAYS AS (to_tsvector(kb_search_language(), content)) STORED"
    )
    op.execute("CREATE INDEX kb_chunks_search_idx ON kb_chunks USING gin (tenant_id, search_vector)")
    op.execute("CREATE POLICY owner_search ON kb_chunks FOR SELECT TO CURRENT_USER USING (true)")
    create_candidates()


def _create_language(language: str) -> None:
    # A function and not a literal: whoever asks questions must cut them by the same language.
    op.execute(
        f"""
        DO $do$ BEGIN
            EXECUTE format(
                'CREATE FUNCTION kb_search_language() RETURNS regconfig LANGUAGE sql IMMUTABLE PARALLEL SAFE'
                ' RETURN %L::regconfig',
                COALESCE((SELECT 'pg_catalog.' || quote_ident(cfgname) FROM pg_ts_config
                          WHERE cfgname = '{language}' AND cfgnamespace = 'pg_catalog'::regnamespace),
                         'pg_catalog.simple'));
        END $do$
        """
    )


def create_candidates() -> None:
    """Create the function that finds passages by their words."""
    # What a word is worth is how rare it is among the passages that match (BM25, each word counted once): a question in
    # whole sentences holds many words that say little. PostgreSQL's own ranking knows nothing of other passages.
    op.execute(
        """
        CREATE FUNCTION kb_keyword_candidates(words tsquery, lexemes text[], documents uuid[], most integer)
        RETURNS TABLE (id uuid, relevance float8)
        LANGUAGE sql STABLE SECURITY DEFINER
        SET enable_seqscan = off SET enable_indexscan = off SET enable_indexonlyscan = off
        AS $$
            WITH matching AS MATERIALIZED (
                SELECT c.id, c.search_vector, length(c.search_vector) AS size FROM kb_chunks c
                WHERE c.tenant_id = current_tenant() AND c.search_vector @@ words
                  AND (documents IS NULL OR c.document_id = ANY (documents))
                LIMIT 20000
            ),
            held AS MATERIALIZED (
                SELECT m.id, m.size, l.lexeme FROM matching m
                JOIN (SELECT lexeme, quote_literal(lexeme)::tsquery AS query FROM unnest(lexemes) lexeme) l
                  ON m.search_vector @@ l.query
            ),
            worth AS (
                SELECT lexeme, ln(1 + (SELECT count(*) FROM matching)::float8 / count(*)) AS value
                FROM held GROUP BY lexeme
            )
            SELECT h.id, sum(w.value) / (1 + 1.2 * (0.25 + 0.75 * h.size / (SELECT avg(size) FROM matching)))
            FROM held h JOIN worth w USING (lexeme)
            GROUP BY h.id, h.size ORDER BY 2 DESC, h.id LIMIT most
        $$
        """
    )
    narrow_definer_function(_FUNCTION)


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {_FUNCTION}")
    op.execute("DROP POLICY owner_search ON kb_chunks")
    op.execute("DROP INDEX kb_chunks_search_idx")
    op.execute("ALTER TABLE kb_chunks DROP COLUMN search_vector")
    op.execute("DROP FUNCTION kb_search_language()")
