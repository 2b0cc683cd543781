"""Which model searches go by: embedding profiles, and the one that is active.

The database says which profile is active, not the settings, so that a running server follows when `konstruct kb
reembed` activates another one. A vector is only ever compared with vectors of the same profile: whoever has embedded
something says by which profile, and the transaction that uses it checks that this one is still active. Else it begins
again.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import select

from app.database.database import Database
from app.database.failures import translated_failures
from app.embeddings import EmbeddingProvider, create_provider
from app.models import EmbeddingProfile
from app.settings import EmbeddingsProvider, EmbeddingsSettings

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Profile:
    """A model and the length of its vectors, by the number that the database has for it."""

    id: int
    provider: EmbeddingsProvider
    model: str
    dimensions: int

    def __str__(self) -> str:
        """Return what a person calls it."""
        return " ".join(filter(None, (self.provider.value, self.model, f"({self.dimensions} dimensions)")))

    def applied_to(self, settings: EmbeddingsSettings) -> EmbeddingsSettings:
        """Return the settings with this profile's model; addresses, keys and patience stay."""
        return settings.model_copy(
            update={"provider": self.provider, "model": self.model, "dimensions": self.dimensions}
        )


@dataclass(frozen=True, slots=True)
class Embedder:
    """A profile and the provider that makes its vectors."""

    profile: Profile
    provider: EmbeddingProvider


class ProfileChanged(Exception):
    """Another profile was activated after something had been embedded. Nothing was done; begin again."""


class Embeddings:
    """The active profile's embedder, as this process knows it."""

    def __init__(self, database: Database, create: Callable[[Profile], EmbeddingProvider]) -> None:
        self._database = database
        self._create = create
        self._current: Embedder | None = None
        self._made: list[EmbeddingProvider] = []

    @classmethod
    def from_settings(cls, database: Database, settings: EmbeddingsSettings) -> "Embeddings":
        """Make providers with the addresses and keys of the settings."""
        return cls(database, lambda profile: create_provider(profile.applied_to(settings)))

    async def current(self) -> Embedder:
        """Return the embedder of the profile that was active when this process looked last."""
        return self._current or await self.refresh()

    async def embed_for(self, work: Callable[[Embedder], Awaitable[_Result]]) -> _Result:
        """Do some work with the active profile's embedder; again from its beginning when it raises `ProfileChanged`."""
        embedder = await self.current()
        while True:
            try:
                return await work(embedder)
            except ProfileChanged:
                embedder = await self.refresh()

    async def refresh(self) -> Embedder:
        """Look which profile is active now; return its embedder."""
        with translated_failures():
            async with self._database.connection() as connection:
                row = (await connection.execute(_ACTIVE)).one()
        profile = Profile(row.id, EmbeddingsProvider(row.provider), row.model, row.dimensions)
        if self._current is None or self._current.profile != profile:
            # The old one is closed at the end: other requests may still be using it.
            self._current = Embedder(profile, self._create(profile))
            self._made.append(self._current.provider)
        return self._current

    async def close(self) -> None:
        """Release the connections of all providers."""
        for provider in self._made:
            await provider.close()


_ACTIVE = select(
    EmbeddingProfile.id, EmbeddingProfile.provider, EmbeddingProfile.model, EmbeddingProfile.dimensions
).where(EmbeddingProfile.is_active)
