"""The seam between the knowledge base and whatever turns text into vectors."""

from collections.abc import Sequence
from typing import Protocol

from app.embeddings.local import LocalProvider
from app.embeddings.none import NoProvider
from app.embeddings.openai import OpenAIProvider
from app.embeddings.vector import Vector
from app.settings import EmbeddingsProvider, EmbeddingsSettings

__all__ = ["EmbeddingProvider", "Vector", "create_provider"]


class EmbeddingProvider(Protocol):
    """Turns texts into vectors of one fixed length."""

    @property
    def model(self) -> str | None:
        """The model's name, for diagnostics; `None` when clients bring their own vectors."""

    @property
    def dimensions(self) -> int:
        """The length of every vector."""

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one unit vector a text, in the same order; raise `EmbeddingFailed` when that can't be done."""

    async def close(self) -> None:
        """Release connections."""


def create_provider(settings: EmbeddingsSettings) -> EmbeddingProvider:
    """Return the configured provider."""
    match settings.provider:
        case EmbeddingsProvider.LOCAL:
            return LocalProvider(settings.index_dimensions)
        case EmbeddingsProvider.OPENAI:
            return OpenAIProvider(settings)
        case EmbeddingsProvider.NONE:
            return NoProvider(settings.index_dimensions)
