"""Static word embeddings on the server's own CPU: some 4,000 passages a second a core, which find much less."""

import asyncio
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from app.embeddings.vector import Vector, normalised
from app.errors import EmbeddingFailed
from app.settings import LocalModel

# Texts a step in the worker thread: short enough that a cancelled request is noticed soon.
_BATCH = 256


class WordLlamaProvider:
    """Embeds with the WordLlama model that its package ships (256 dimensions, English, CC0/MIT weights)."""

    model = "wordllama-l2-supercat-256"
    dimensions = LocalModel.WORDLLAMA.dimensions

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one unit vector a text; computed in a worker thread."""
        vectors: list[Vector] = []
        for start in range(0, len(texts), _BATCH):
            vectors.extend(await asyncio.to_thread(self._embed_batch, texts[start : start + _BATCH]))
        return vectors

    async def close(self) -> None:
        """Nothing to release."""

    def _embed_batch(self, texts: Sequence[str]) -> list[Vector]:
        embedded = _load_model().embed(list(texts))
        return [normalised(row) for row in embedded]


@cache
def _load_model() -> Any:
    package = find_spec("wordllama")
    if package is None or not package.submodule_search_locations:
        raise EmbeddingFailed(
            (), "the embedding model wordllama is not installed; run `pip install 'konstruct[wordllama]'`"
        )
    # Imported on first use: it takes a second to load, which a command that embeds nothing need not wait for.
    from wordllama import WordLlama  # noqa: PLC0415

    # The package looks for its own weights in the wrong folder and would then download them.
    folder = Path(package.submodule_search_locations[0])
    return WordLlama.load(cache_dir=folder, disable_download=True, trunc_dim=WordLlamaProvider.dimensions)
