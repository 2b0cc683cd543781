"""Any server with OpenAI's /v1/embeddings: batched, bounded in time, retried where that is safe."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import numpy as np

from app.embeddings.vector import Vector, normalised
from app.errors import EmbeddingFailed
from app.settings import EmbeddingsSettings

_RETRYABLE = frozenset({408, 409, 425, 429, 500, 502, 503, 504})

# A provider that asks for a longer pause than this is told to the caller instead of being waited for.
_LONGEST_PAUSE_SECONDS = 20.0


class OpenAIProvider:
    """Embeds through an OpenAI-compatible API. The key is sent as a bearer token and never logged."""

    def __init__(
        self,
        settings: EmbeddingsSettings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.model = settings.index_model
        self.dimensions = settings.index_dimensions
        self._settings = settings
        self._sleep = sleep
        headers = {}
        if settings.api_key is not None:
            headers["Authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
        self._client = httpx.AsyncClient(
            base_url=settings.url.rstrip("/") + "/",
            headers=headers,
            timeout=settings.timeout_seconds,
            transport=transport,
        )

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one unit vector a text; a batch that succeeded is not sent again when a later one is retried."""
        vectors: list[Vector] = []
        for start in range(0, len(texts), self._settings.batch_size):
            vectors.extend(await self._embed_batch(texts[start : start + self._settings.batch_size]))
        return vectors

    async def close(self) -> None:
        """Close the connections to the provider."""
        await self._client.aclose()

    async def _embed_batch(self, texts: Sequence[str]) -> list[Vector]:
        for attempt in range(1, self._settings.max_attempts + 1):
            is_last = attempt == self._settings.max_attempts
            try:
                async with asyncio.timeout(self._settings.timeout_seconds):
                    response = await self._client.post("embeddings", json=self._body(texts))
            except (httpx.HTTPError, TimeoutError) as error:
                if is_last:
                    raise EmbeddingFailed(
                        (), "the embedding provider did not answer in time; try again later"
                    ) from error
                await self._sleep(_backoff(attempt))
                continue
            if response.is_success:
                return self._read(response, len(texts))
            pause = _retry_after(response) or _backoff(attempt)
            if response.status_code not in _RETRYABLE or is_last or pause > _LONGEST_PAUSE_SECONDS:
                raise EmbeddingFailed((), f"the embedding provider answered with HTTP status {response.status_code}")
            await self._sleep(pause)
        raise AssertionError("unreachable")

    def _body(self, texts: Sequence[str]) -> dict[str, Any]:
        return {"model": self.model, "input": list(texts), "encoding_format": "float"}

    def _read(self, response: httpx.Response, count: int) -> list[Vector]:
        """Order the vectors by their index: a provider may answer in any order."""
        malformed = EmbeddingFailed((), "the embedding provider sent an answer that is not an embeddings response")
        try:
            by_index = {int(item["index"]): item["embedding"] for item in response.json()["data"]}
            rows = [np.asarray(by_index[position], dtype=np.float64) for position in range(count)]
        except (KeyError, TypeError, ValueError) as error:
            raise malformed from error
        for row in rows:
            if row.shape != (self.dimensions,):
                raise EmbeddingFailed(
                    (),
                    f"the model {self.model} makes vectors of {row.size} numbers, the index holds {self.dimensions};"
                    " see KONSTRUCT_EMBEDDINGS_DIMENSIONS",
                )
            if not np.all(np.isfinite(row)):
                raise malformed
        return [normalised(row) for row in rows]


def _backoff(attempt: int) -> float:
    return 0.25 * 2.0 ** (attempt - 1)


def _retry_after(response: httpx.Response) -> float | None:
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
