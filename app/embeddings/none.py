"""No provider: clients bring their own vectors."""

from collections.abc import Sequence

from app.embeddings.vector import Vector
from app.errors import EmbeddingFailed


class NoProvider:
    """Refuses to embed and says what to send instead."""

    model = None

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Raise `EmbeddingFailed` unless there is nothing to embed."""
        if not texts:
            return []
        raise EmbeddingFailed(
            (),
            f"this installation embeds no text (KONSTRUCT_EMBEDDINGS=none); send vectors of {self.dimensions} numbers",
        )

    async def close(self) -> None:
        """Nothing to release."""
