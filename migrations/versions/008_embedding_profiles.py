"""Embedding profiles, and passages that are partitioned by tenant.

A profile is a model with the length of its vectors. One is active: `kb_chunks` holds its vectors. Another one's are
built in a table of the same shape beside it, and the two change names when it is activated (`konstruct kb reembed`).

Passages are spread over partitions by their tenant: each has a vector index of its own, so that a search walks past the
vectors of a thirty-second of the tenants instead of all of them. Each vector is there at half precision too, in the
row, while the vector itself and the texts are kept out of it: comparing every vector of a tenant reads a third as much,
and only the best are compared again as they are.

An old server knows nothing of profiles and of halved vectors and goes on working, without the index, until another
profile is activated. The passages that are there already are copied and indexed anew, which takes minutes for a million
passages and locks the table meanwhile.
"""

from importlib import import_module

from alembic import context, op
from sqlalchemy import text

from migrations.tenant_policies import grant_to_runtime, isolate_tenants, narrow_definer_function

revision = "008"
down_revision = "007"
branch_labels = None
depends_on = None

_FUNCTIONS = (
    "create_kb_chunks(text, integer)",
    "lock_kb_chunks(text)",
    "index_kb_chunks(text, integer)",
    "rename_kb_chunks(text, text)",
)
_CANDIDATES = "kb_keyword_candidates(tsquery, text[], uuid[], integer)"
_COLUMNS = "tenant_id, id, document_id, chunk_index, content, metadata, embedding"


def upgrade() -> None:
    provider, model, dimensions = context.config.attributes["embedding_profile"]
    # Nobody can tell from vectors what made them, only how long they are.
    op.execute(
        f"""
        DO $do$
        DECLARE
            stored integer := (SELECT atttypmod FROM pg_attribute
                               WHERE attrelid = 'kb_chunks'::regclass AND attname = 'embedding');
        BEGIN
            IF stored <> {dimensions} AND EXISTS (SELECT FROM kb_chunks) THEN
                RAISE EXCEPTION 'the passages have vectors of % dimensions and the settings say {dimensions}', stored
                USING HINT = 'Migrate with KONSTRUCT_EMBEDDINGS, _MODEL and _DIMENSIONS as the passages were embedded;'
                    ' afterwards `konstruct kb reembed` changes the model.';
            END IF;
        END $do$
        """
    )
    _create_profiles()
    profile = text(
        "INSERT INTO kb_profiles (id, provider, model, dimensions, is_active)"
        " VALUES (1, :provider, :model, :dimensions, true)"
    )
    op.execute(profile.bindparams(provider=provider, model=model, dimensions=dimensions))
    _create_functions()
    op.execute(f"SELECT create_kb_chunks('kb_profile_1_chunks', {dimensions})")
    _copy("kb_chunks", "kb_profile_1_chunks")
    op.execute(f"SELECT index_kb_chunks('kb_profile_1_chunks', {dimensions})")
    op.execute("DROP TABLE kb_chunks")
    op.execute("SELECT rename_kb_chunks('kb_profile_1_chunks', 'kb_chunks')")
    _create_keyword_candidates()
    # Each search adds up how many passages there are: from the index alone, without reading the documents.
    op.execute("CREATE INDEX kb_documents_chunk_count_idx ON kb_documents (tenant_id) INCLUDE (chunk_count)")


def _copy(source: str, target: str) -> None:
    # The owner may read all passages, and write them while it is not forced.
    op.execute(f"ALTER TABLE {target} NO FORCE ROW LEVEL SECURITY")
    op.execute(f"INSERT INTO {target} ({_COLUMNS}) SELECT {_COLUMNS} FROM {source}")
    op.execute(f"ALTER TABLE {target} FORCE ROW LEVEL SECURITY")


def _create_profiles() -> None:
    # No row of a tenant, and not forced: everybody may know which model searches go by, the owner alone changes it.
    op.execute(
        """
        CREATE TABLE kb_profiles (
            id smallint NOT NULL,
            provider text COLLATE "C" NOT NULL,
            model text COLLATE "C" NOT NULL,
            dimensions integer NOT NULL,
            is_active boolean NOT NULL DEFAULT false,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT kb_profiles_pkey PRIMARY KEY (id),
            CONSTRAINT kb_profiles_model_key UNIQUE (provider, model, dimensions),
            CONSTRAINT kb_profiles_dimensions_check CHECK (dimensions BETWEEN 1 AND 4000)
        )
        """
    )
    op.execute("CREATE UNIQUE INDEX kb_profiles_active_idx ON kb_profiles (is_active) WHERE is_active")
    op.execute("ALTER TABLE kb_profiles ENABLE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY everybody ON kb_profiles FOR SELECT USING (true)")
    grant_to_runtime("SELECT", "kb_profiles")


def _create_functions() -> None:
    # Functions of the database and not of a revision: tables of this shape are made whenever a profile is built.
    _create_table_function()
    _create_lock_function()
    _create_index_function()
    _create_rename_function()
    for function in _FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")


def _create_table_function() -> None:
    op.execute(
        """
        CREATE FUNCTION create_kb_chunks(name text, dimensions integer) RETURNS void LANGUAGE plpgsql AS $$
        DECLARE
            part text;
        BEGIN
            -- The halved vector stands before all columns of varying length: so it is found without reading those.
            EXECUTE format(
                'CREATE TABLE %1$I ('
                '    tenant_id uuid NOT NULL,'
                '    id uuid NOT NULL,'
                '    document_id uuid NOT NULL,'
                '    chunk_index integer NOT NULL,'
                '    embedding_half halfvec GENERATED ALWAYS AS (embedding::halfvec) STORED,'
                '    content text NOT NULL,'
                '    metadata jsonb NOT NULL DEFAULT ''{}'','
                '    embedding vector NOT NULL,'
                '    search_vector tsvector GENERATED ALWAYS AS (to_tsvector(kb_search_language(), content)) STORED,'
                '    CONSTRAINT %2$I PRIMARY KEY (tenant_id, id),'
                '    CONSTRAINT %3$I UNIQUE (tenant_id, document_id, chunk_index),'
                '    CONSTRAINT %4$I CHECK (jsonb_typeof(metadata) = ''object''),'
                '    CONSTRAINT %5$I CHECK (chunk_index >= 0),'
                '    CONSTRAINT %6$I CHECK (vector_dims(embedding) = %8$s),'
                '    CONSTRAINT %7$I FOREIGN KEY (tenant_id, document_id)'
                '        REFERENCES kb_documents (tenant_id, id) ON DELETE CASCADE'
                ') PARTITION BY HASH (tenant_id)',
                name, name || '_pkey', name || '_chunk_index_key', name || '_metadata_check',
                name || '_chunk_index_check', name || '_embedding_check', name || '_kb_documents_fkey', dimensions);
            -- A row of 8 kB can hold this many 2-byte numbers beside its other columns.
            EXECUTE format('ALTER TABLE %I ALTER COLUMN embedding_half SET STORAGE %s',
                           name, CASE WHEN dimensions <= 3800 THEN 'PLAIN' ELSE 'EXTERNAL' END);
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO konstruct_app', name);
            FOR number IN 0 .. 31 LOOP
                part := name || '_' || number;
                EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES WITH (MODULUS 32, REMAINDER %s)'
                               ' WITH (toast_tuple_target = 128)', part, name, number);
                PERFORM lock_kb_chunks(part);
            END LOOP;
            PERFORM lock_kb_chunks(name);
            EXECUTE format('CREATE POLICY owner_search ON %I FOR SELECT TO %I USING (true)', name, current_user);
        END $$
        """
    )


def _create_lock_function() -> None:
    # Partitions do not inherit row level security. They get no grant: the runtime role goes through the parent.
    op.execute(
        """
        CREATE FUNCTION lock_kb_chunks(name text) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
            EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
            EXECUTE format('CREATE POLICY tenant_isolation ON %I USING (tenant_id = current_tenant())'
                           ' WITH CHECK (tenant_id = current_tenant())', name);
        END $$
        """
    )


def _create_index_function() -> None:
    # An index needs vectors of one length, which its expression says. That the expression differs from the column also
    # lets a query choose its lane by how it is written.
    op.execute(
        """
        CREATE FUNCTION index_kb_chunks(name text, dimensions integer) RETURNS void LANGUAGE plpgsql AS $$
        DECLARE
            by_vector text;
        BEGIN
            EXECUTE format('CREATE INDEX %I ON %I USING gin (tenant_id, search_vector)', name || '_search_idx', name);
            by_vector := format('CREATE INDEX %I ON %I USING hnsw ((embedding_half::halfvec(%s)) halfvec_cosine_ops)',
                                name || '_embedding_idx', name, dimensions);
            BEGIN
                EXECUTE by_vector;
            EXCEPTION WHEN disk_full OR out_of_memory THEN
                -- Several processes share as much memory as maintenance_work_mem, and containers often have little to
                -- share. One process needs none.
                PERFORM set_config('max_parallel_maintenance_workers', '0', true);
                EXECUTE by_vector;
            END;
        END $$
        """
    )


def _create_rename_function() -> None:
    # The partitions, indexes and constraints go with their table.
    op.execute(
        """
        CREATE FUNCTION rename_kb_chunks(old text, new text) RETURNS void LANGUAGE plpgsql AS $$
        DECLARE
            found record;
        BEGIN
            EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', old);
            -- Checks take those of the partitions with them, references to other tables do not.
            FOR found IN
                SELECT conrelid::regclass::text AS of_table, conname AS name FROM pg_constraint
                WHERE starts_with(conname, old || '_')
                  AND (contype = 'c' AND conrelid = old::regclass
                       OR contype = 'f' AND conrelid IN (SELECT relid FROM pg_partition_tree(old::regclass)))
                ORDER BY contype
            LOOP
                EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I',
                               found.of_table, found.name, new || substr(found.name, length(old) + 1));
            END LOOP;
            FOR found IN
                SELECT c.relname AS name, CASE WHEN c.relkind IN ('i', 'I') THEN 'INDEX' ELSE 'TABLE' END AS kind
                FROM pg_class c
                WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'i', 'I')
                  AND (c.relname = old OR starts_with(c.relname, old || '_'))
            LOOP
                EXECUTE format('ALTER %s %I RENAME TO %I',
                               found.kind, found.name, new || substr(found.name, length(old) + 1));
            END LOOP;
        END $$
        """
    )


def _create_keyword_candidates() -> None:
    # Beside what revision 007 says: which share of what all the words are worth a passage holds (a word that no passage
    # holds is worth most), and how many match, so that a search knows when not all of them were looked at.
    op.execute(f"DROP FUNCTION {_CANDIDATES}")
    op.execute(
        """
        CREATE FUNCTION kb_keyword_candidates(words tsquery, lexemes text[], documents uuid[], most integer)
        RETURNS TABLE (id uuid, relevance float8, coverage float8, matching bigint)
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
                SELECT lexeme, ln(1 + (SELECT count(*) FROM matching)::float8 / greatest(count(h.id), 1)) AS value
                FROM unnest(lexemes) lexeme LEFT JOIN held h USING (lexeme) GROUP BY lexeme
            )
            SELECT h.id, sum(w.value) / (1 + 1.2 * (0.25 + 0.75 * h.size / (SELECT avg(size) FROM matching))),
                   sum(w.value) / (SELECT sum(value) FROM worth), (SELECT count(*) FROM matching)
            FROM held h JOIN worth w USING (lexeme)
            GROUP BY h.id, h.size ORDER BY 2 DESC, h.id LIMIT most
        $$
        """
    )
    narrow_definer_function(_CANDIDATES)


def downgrade() -> None:
    op.execute("DROP INDEX kb_documents_chunk_count_idx")
    op.execute("SELECT rename_kb_chunks('kb_chunks', 'kb_profile_0_chunks')")
    op.execute(
        """
        DO $do$
        DECLARE
            active integer := (SELECT dimensions FROM kb_profiles WHERE is_active);
        BEGIN
            EXECUTE format(
                'CREATE TABLE kb_chunks ('
                '    tenant_id uuid NOT NULL,'
                '    id uuid NOT NULL,'
                '    document_id uuid NOT NULL,'
                '    chunk_index integer NOT NULL,'
                '    content text NOT NULL,'
                '    metadata jsonb NOT NULL DEFAULT ''{}'','
                '    embedding vector(%s) NOT NULL,'
                '    search_vector tsvector GENERATED ALWAYS AS (to_tsvector(kb_search_language(), content)) STORED,'
                '    CONSTRAINT kb_chunks_pkey PRIMARY KEY (tenant_id, id),'
                '    CONSTRAINT kb_chunks_chunk_index_key UNIQUE (tenant_id, document_id, chunk_index),'
                '    CONSTRAINT kb_chunks_metadata_check CHECK (jsonb_typeof(metadata) = ''object''),'
                '    CONSTRAINT kb_chunks_chunk_index_check CHECK (chunk_index >= 0),'
                '    CONSTRAINT kb_chunks_kb_documents_fkey FOREIGN KEY (tenant_id, document_id)'
                '        REFERENCES kb_documents (tenant_id, id) ON DELETE CASCADE)', active);
            EXECUTE format('ALTER TABLE kb_chunks ALTER COLUMN embedding SET STORAGE %s',
                           CASE WHEN active <= 1900 THEN 'PLAIN' ELSE 'EXTERNAL' END);
            EXECUTE format('CREATE INDEX kb_chunks_embedding_idx ON kb_chunks'
                           ' USING hnsw ((embedding::halfvec(%s)) halfvec_cosine_ops)', active);
        END $do$
        """
    )
    op.execute("CREATE INDEX kb_chunks_search_idx ON kb_chunks USING gin (tenant_id, search_vector)")
    isolate_tenants("kb_chunks")
    op.execute("CREATE POLICY owner_search ON kb_chunks FOR SELECT TO CURRENT_USER USING (true)")
    grant_to_runtime("SELECT, INSERT, UPDATE, DELETE", "kb_chunks")
    _copy("kb_profile_0_chunks", "kb_chunks")
    # Those of other profiles too: their vectors are made again by a later `konstruct kb reembed`.
    op.execute(
        """
        DO $do$
        DECLARE
            made record;
        BEGIN
            FOR made IN SELECT relname FROM pg_class
                        WHERE relnamespace = current_schema()::regnamespace AND relkind = 'p'
                          AND relname ~ '^kb_profile_[0-9]+_chunks$'
            LOOP
                EXECUTE format('DROP TABLE %I', made.relname);
            END LOOP;
        END $do$
        """
    )
    op.execute(f"DROP FUNCTION {_CANDIDATES}")
    import_module("migrations.versions.007_keyword_search").create_candidates()
    for function in _FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
    op.execute("DROP TABLE kb_profiles")
