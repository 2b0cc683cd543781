"""Text into vectors: the provider protocol and its implementations."""

from app.embeddings.provider import EmbeddingProvider, Vector, create_provider

__all__ = ["EmbeddingProvider", "Vector", "create_provider"]
