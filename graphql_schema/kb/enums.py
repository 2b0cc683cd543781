"""The closed sets of the knowledge base, exposed in the API under their names by importing them from here."""

from app.kb.ingest import IngestOutcome
from app.kb.search import SearchMode, SearchStrategy, ShortfallReason
from graphql_schema.enums import graphql_enum

__all__ = ["IngestOutcome", "SearchMode", "SearchStrategy", "ShortfallReason"]


graphql_enum(
    SearchStrategy,
    name="KbSearchStrategy",
    description="How a search ran.",
    values={
        "EXACT": "Every candidate was compared: the answer is exact.",
        "HNSW": "The vector index was searched and its best ranked again by the exact distance.",
        "KEYWORD": "Words were looked up.",
        "HYBRID_EXACT": "Words were looked up, and every candidate's vector was compared.",
        "HYBRID_HNSW": "Words were looked up, and so were vectors in their index.",
    },
)
graphql_enum(
    ShortfallReason,
    name="ShortfallReason",
    description="Why a search returned fewer hits than `limit`.",
    values={
        "NOT_ENOUGH_MATCHES": "There are no more chunks to find under this filter.",
        "SCAN_LIMIT_REACHED": "The search went 2,000 passages deep, or 20,000 hold the words: the rest is not seen.",
        "BELOW_MIN_SIMILARITY": "The others are less similar than `minSimilarity`.",
    },
)
graphql_enum(
    SearchMode,
    name="KbSearchMode",
    description="What a search goes by.",
    values={
        "VECTOR": "By meaning: the passages whose vectors are nearest to the query's.",
        "KEYWORD": (
            'By words and their stems, as web searches have them: `late parcel`, `"exact phrase"`, `parcel -invoice`.'
            " Without quotes and minus signs a passage need not hold all words; those with all come first."
        ),
        "HYBRID": (
            "By both, ranked by reciprocal rank fusion: what both find comes first. Holding a few of the words does not"
            " count."
        ),
    },
)
graphql_enum(
    IngestOutcome,
    name="IngestOutcome",
    description="What became of a document that was sent in.",
    values={
        "CREATED": "It is new.",
        "UPDATED": "It replaced the earlier version, with all its chunks, in one step.",
        "UNCHANGED": "It is stored with this very content already; nothing was embedded.",
        "REJECTED": "Nothing was stored; `userErrors` says why.",
    },
)
