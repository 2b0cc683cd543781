"""The closed sets of the knowledge base, exposed in the API under their names by importing them from here."""

from enum import StrEnum

from app.kb.ingest import IngestOutcome
from app.kb.search import SearchStrategy, ShortfallReason
from graphql_schema.enums import graphql_enum

__all__ = ["IngestOutcome", "KbSearchMode", "SearchStrategy", "ShortfallReason"]


class KbSearchMode(StrEnum):
    """How to search."""

    VECTOR = "vector"


graphql_enum(
    SearchStrategy,
    name="KbSearchStrategy",
    description="How a search ran.",
    values={
        "EXACT": "Every candidate was compared: the answer is exact.",
        "HNSW": "The vector index was searched and its best ranked again by the exact distance.",
    },
)
graphql_enum(
    ShortfallReason,
    name="ShortfallReason",
    description="Why a search returned fewer hits than `limit`.",
    values={
        "NOT_ENOUGH_MATCHES": "There are no more chunks to find under this filter.",
        "BELOW_MIN_SIMILARITY": "The others are less similar than `minSimilarity`.",
    },
)
graphql_enum(
    KbSearchMode,
    name="KbSearchMode",
    description="How to search.",
    values={"VECTOR": "By meaning: the passages whose vectors are nearest to the query's."},
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
