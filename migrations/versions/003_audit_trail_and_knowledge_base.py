"""The audit trail (insert-only, partitioned by month) and the knowledge base (documents, chunks, HNSW index).

An old server does not know these tables and is not affected. The embedding dimension is fixed here, from the settings
of the embedding provider, since an index is built for one dimension.
"""

from alembic import context, op

from migrations.tenant_policies import grant_to_runtime, isolate_tenants

revision = "003"
down_revision = "002"
branch_labels = None
depends_on = None

# All columns but created_at and xid, which the server alone sets: even the runtime role can't backdate an event.
INSERTABLE = (
    "tenant_id, id, agent_id, user_id, action_type, action_name, status, error, input_summary, output_summary,"
    " latency_ms, input_tokens, output_tokens, cost_usd, metadata, occurred_at, session_id, trace_id,"
    " parent_event_id, submitted_by, content_salt"
)

# A row of 8 kB pages can hold this many 4-byte numbers beside its other columns.
MAX_INLINE_DIMENSIONS = 1900


def upgrade() -> None:
    dimensions = context.config.attributes["embedding_dimensions"]
    _create_audit_events()
    _create_idempotency_keys()
    _create_knowledge_base(dimensions)


def _create_audit_events() -> None:
    op.execute(
        """
        CREATE TABLE audit_events (
            tenant_id uuid NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            id uuid NOT NULL,
            agent_id uuid,
            user_id text COLLATE "C",
            action_type text COLLATE "C" NOT NULL,
            action_name text COLLATE "C",
            status text COLLATE "C" NOT NULL,
            error text,
            input_summary text,
            output_summary text,
            latency_ms integer,
            input_tokens integer,
            output_tokens integer,
            cost_usd numeric,
            metadata jsonb NOT NULL DEFAULT '{}',
            occurred_at timestamptz,
            session_id text COLLATE "C",
            trace_id text COLLATE "C",
            parent_event_id uuid,
            submitted_by text COLLATE "C" NOT NULL,
            content_salt bytea,
            xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
            CONSTRAINT audit_events_pkey PRIMARY KEY (tenant_id, created_at, id),
            CONSTRAINT audit_events_action_type_check
                CHECK (action_type IN ('llm_call', 'tool_invocation', 'escalation')),
            CONSTRAINT audit_events_status_check CHECK (status IN ('succeeded', 'failed', 'denied', 'pending')),
            CONSTRAINT audit_events_metadata_check CHECK (jsonb_typeof(metadata) = 'object'),
            CONSTRAINT audit_events_latency_ms_check CHECK (latency_ms >= 0),
            CONSTRAINT audit_events_input_tokens_check CHECK (input_tokens >= 0),
            CONSTRAINT audit_events_output_tokens_check CHECK (output_tokens >= 0),
            CONSTRAINT audit_events_cost_usd_check CHECK (cost_usd >= 0)
        ) PARTITION BY RANGE (created_at)
        """
    )
    for index, columns in {
        "audit_events_id_idx": "tenant_id, id",
        "audit_events_action_type_idx": "tenant_id, action_type, created_at, id",
        "audit_events_agent_id_idx": "tenant_id, agent_id, created_at, id",
    }.items():
        op.execute(f"CREATE INDEX {index} ON audit_events ({columns})")
    for column in ("trace_id", "session_id"):
        op.execute(
            f"CREATE INDEX audit_events_{column}_idx ON audit_events (tenant_id, {column}) WHERE {column} IS NOT NULL"
        )
    op.execute(
        "ALTER TABLE audit_events ADD CONSTRAINT audit_events_tenants_fkey"
        " FOREIGN KEY (tenant_id) REFERENCES tenants (id)"
    )
    isolate_tenants("audit_events")
    grant_to_runtime(f"SELECT, INSERT ({INSERTABLE})", "audit_events")
    _make_immutable()
    _create_partition_function()
    op.execute("SELECT create_audit_partition(NULL)")
    # The previous month too: a clock that steps back over midnight on the first must find its partition.
    op.execute(
        """
        SELECT create_audit_partition(
            (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => n))::date)
        FROM generate_series(-1, 12) AS n
        """
    )


def _make_immutable() -> None:
    # Missing grants stop the runtime role; these triggers stop the owner too. The statement triggers also refuse
    # statements that match no row (all that an owner without a tenant could write); the row trigger is inherited by
    # every partition, whoever attaches it. ALWAYS keeps them firing under session_replication_role = replica.
    op.execute(
        """
        CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'audit events are insert-only: % on % is refused', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Record a new event that corrects the earlier one. Retention drops whole partitions.';
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION refuse_audit_change() FROM PUBLIC")
    op.execute(
        "CREATE TRIGGER refuse_row_change BEFORE UPDATE OR DELETE ON audit_events"
        " FOR EACH ROW EXECUTE FUNCTION refuse_audit_change()"
    )
    op.execute("ALTER TABLE audit_events ENABLE ALWAYS TRIGGER refuse_row_change")
    op.execute(
        "CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()"
    )
    op.execute("ALTER TABLE audit_events ENABLE ALWAYS TRIGGER refuse_change")


def _create_partition_function() -> None:
    # Partitions inherit neither row level security nor statement triggers, so each gets its own; it gets no grant,
    # since the runtime role goes through the parent.
    op.execute(
        """
        CREATE FUNCTION create_audit_partition(month date) RETURNS text LANGUAGE plpgsql AS $$
        DECLARE
            partition text := 'audit_events_' || COALESCE(to_char(month, 'YYYY_MM'), 'default');
            bounds text := 'DEFAULT';
        BEGIN
            IF to_regclass(partition) IS NOT NULL THEN
                RETURN NULL;
            END IF;
            IF month IS NOT NULL THEN
                IF month <> date_trunc('month', month)::date THEN
                    RAISE EXCEPTION '% is not the first day of a month', month;
                END IF;
                bounds := format('FOR VALUES FROM (%L) TO (%L)',
                                 to_char(month, 'YYYY-MM-DD') || ' 00:00:00+00',
                                 to_char(month + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00');
            END IF;
            EXECUTE format('CREATE TABLE %I PARTITION OF audit_events %s', partition, bounds);
            EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', partition);
            EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', partition);
            EXECUTE format('CREATE POLICY tenant_isolation ON %I USING (tenant_id = current_tenant())'
                           ' WITH CHECK (tenant_id = current_tenant())', partition);
            EXECUTE format('CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON %I'
                           ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()', partition);
            EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER refuse_change', partition);
            RETURN partition;
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION create_audit_partition(date) FROM PUBLIC")


def _create_idempotency_keys() -> None:
    op.execute(
        """
        CREATE TABLE audit_idempotency_keys (
            tenant_id uuid NOT NULL,
            key text COLLATE "C" NOT NULL,
            event_id uuid NOT NULL,
            event_created_at timestamptz NOT NULL DEFAULT now(),
            body_hash bytea NOT NULL,
            CONSTRAINT audit_idempotency_keys_pkey PRIMARY KEY (tenant_id, key),
            CONSTRAINT audit_idempotency_keys_body_hash_check CHECK (octet_length(body_hash) = 32)
        )
        """
    )
    op.execute(
        "ALTER TABLE audit_idempotency_keys ADD CONSTRAINT audit_idempotency_keys_tenants_fkey"
        " FOREIGN KEY (tenant_id) REFERENCES tenants (id)"
    )
    isolate_tenants("audit_idempotency_keys")
    grant_to_runtime("SELECT, INSERT (tenant_id, key, event_id, body_hash)", "audit_idempotency_keys")


def _create_knowledge_base(dimensions: int) -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    op.execute(
        """
        CREATE TABLE kb_documents (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            external_id text COLLATE "C" NOT NULL,
            title text NOT NULL,
            source_uri text,
            mime_type text COLLATE "C" NOT NULL,
            metadata jsonb NOT NULL DEFAULT '{}',
            version integer NOT NULL,
            content_hash text COLLATE "C" NOT NULL,
            chunk_count integer NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT kb_documents_pkey PRIMARY KEY (tenant_id, id),
            CONSTRAINT kb_documents_external_id_key UNIQUE (tenant_id, external_id),
            CONSTRAINT kb_documents_metadata_check CHECK (jsonb_typeof(metadata) = 'object'),
            CONSTRAINT kb_documents_version_check CHECK (version >= 1)
        )
        """
    )
    op.execute("CREATE INDEX kb_documents_created_at_idx ON kb_documents (tenant_id, created_at, id)")
    op.execute(
        f"""
        CREATE TABLE kb_chunks (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            document_id uuid NOT NULL,
            chunk_index integer NOT NULL,
            content text NOT NULL,
            metadata jsonb NOT NULL DEFAULT '{{}}',
            embedding vector({dimensions}) NOT NULL,
            CONSTRAINT kb_chunks_pkey PRIMARY KEY (tenant_id, id),
            CONSTRAINT kb_chunks_chunk_index_key UNIQUE (tenant_id, document_id, chunk_index),
            CONSTRAINT kb_chunks_metadata_check CHECK (jsonb_typeof(metadata) = 'object'),
            CONSTRAINT kb_chunks_chunk_index_check CHECK (chunk_index >= 0)
        )
        """
    )
    # The exact lane reads every vector of a tenant: inline ones spare it a look-up in the TOAST table each.
    storage = "PLAIN" if dimensions <= MAX_INLINE_DIMENSIONS else "EXTERNAL"
    op.execute(f"ALTER TABLE kb_chunks ALTER COLUMN embedding SET STORAGE {storage}")
    # Half precision halves the index and reaches 4,000 dimensions; results are ranked again by the exact distance.
    # That the indexed expression differs from the column also lets a query choose its lane by how it is written.
    op.execute(
        "CREATE INDEX kb_chunks_embedding_idx ON kb_chunks"
        f" USING hnsw ((embedding::halfvec({dimensions})) halfvec_cosine_ops)"
    )
    op.execute(
        "ALTER TABLE kb_documents ADD CONSTRAINT kb_documents_tenants_fkey"
        " FOREIGN KEY (tenant_id) REFERENCES tenants (id)"
    )
    op.execute(
        "ALTER TABLE kb_chunks ADD CONSTRAINT kb_chunks_kb_documents_fkey"
        " FOREIGN KEY (tenant_id, document_id) REFERENCES kb_documents (tenant_id, id) ON DELETE CASCADE"
    )
    for table in ("kb_documents", "kb_chunks"):
        isolate_tenants(table)
        grant_to_runtime("SELECT, INSERT, UPDATE, DELETE", table)


def downgrade() -> None:
    op.execute("DROP TABLE kb_chunks")
    op.execute("DROP TABLE kb_documents")
    op.execute("DROP TABLE audit_idempotency_keys")
    op.execute("DROP TABLE audit_events")
    op.execute("DROP FUNCTION create_audit_partition(date)")
    op.execute("DROP FUNCTION refuse_audit_change()")
    # The extension stays: it may have been there before, and dropping it may need a superuser.
