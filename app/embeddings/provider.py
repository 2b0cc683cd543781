"""The seam between the knowledge base and whatever turns text into vectors."""

from collections.abc import Sequence
from typing import Protocol

from app.embeddings.minilm import MiniLMProvider
from app.embeddings.none import NoProvider
from app.embeddings.openai import OpenAIProvider
from app.embeddings.vector import Vector
from app.embeddings.wordllama import WordLlamaProvider
from app.settings import EmbeddingsProvider, EmbeddingsSettings, LocalModel

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
    """Return the configured provider; raise `SettingsError` for dimensions that it can't have."""
    dimensions = settings.index_dimensions
    match settings.provider:
        case EmbeddingsProvider.LOCAL:
            return _create_local(settings.local_model)
        case EmbeddingsProvider.OPENAI:
            return OpenAIProvider(settings)
        case EmbeddingsProvider.NONE:
            return NoProvider(dimensions)


def _create_local(model: LocalModel) -> EmbeddingProvider:
    match model:
        case LocalModel.MINILM:
            return MiniLMProvider()
        case LocalModel.WORDLLAMA:
            return WordLlamaProvider()
