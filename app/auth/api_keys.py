"""API keys: made once, stored as a hash, looked up through one narrow function, cached for a few seconds.

A key is `kst_` and 43 characters of base64url: 256 random bits, so that a plain SHA-256 is as good as a slow hash.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from cachetools import TTLCache
from sqlalchemy import LargeBinary, bindparam, text

from app.auth.principal import Principal, Scope
from app.database.database import Database
from app.database.failures import translated_failures
from app.database.ids import new_id
from app.database.tenant_owned import TenantId
from app.errors import Unauthenticated

KEY_PREFIX = "kst_"
_KEY_LENGTH = len(KEY_PREFIX) + 43
_SHOWN_CHARACTERS = len(KEY_PREFIX) + 6

# Bounds what strangers with random keys can make a process remember.
_CACHED_KEYS = 10_000

_FIND = text("SELECT * FROM find_api_key(:hash)").bindparams(bindparam("hash", type_=LargeBinary()))


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made. `secret` is shown to the operator once and stored nowhere."""

    id: UUID
    name: str
    secret: str
    key_prefix: str
    key_hash: bytes
    scopes: tuple[Scope, ...]


@dataclass(frozen=True, slots=True)
class _FoundKey:
    principal: Principal
    expires_at: datetime | None


def make_api_key(name: str, scopes: Collection[Scope]) -> NewApiKey:
    """Make a key with a fresh secret."""
    secret = KEY_PREFIX + secrets.token_urlsafe(32)
    return NewApiKey(new_id(), name, secret, secret[:_SHOWN_CHARACTERS], hash_secret(secret), tuple(sorted(scopes)))


def hash_secret(secret: str) -> bytes:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


class ApiKeyAuthenticator:
    """Turns a secret into the principal behind it.

    An answer, positive or negative, is reused for `cache_seconds`: that is how long a revoked key can live on in a
    process. Simultaneous requests with one key share one look-up.
    """

    def __init__(
        self,
        database: Database,
        *,
        cache_seconds: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._now = now
        self._found: TTLCache[bytes, _FoundKey | None] = TTLCache(_CACHED_KEYS, cache_seconds)
        self._lookups: dict[bytes, asyncio.Task[_FoundKey | None]] = {}

    async def authenticate(self, secret: str) -> Principal:
        """Return the principal of a valid key; raise `Unauthenticated` for any other."""
        if len(secret) != _KEY_LENGTH or not secret.startswith(KEY_PREFIX) or not secret.isascii():
            raise Unauthenticated("the API key is malformed; a key starts with kst_ and has 47 characters")
        key_hash = hash_secret(secret)
        try:
            found = self._found[key_hash]
        except KeyError:
            found = await self._look_up_once(key_hash)
        if found is None or (found.expires_at is not None and found.expires_at <= self._now()):
            raise Unauthenticated("the API key is unknown, revoked or expired")
        return found.principal

    async def _look_up_once(self, key_hash: bytes) -> _FoundKey | None:
        lookup = self._lookups.get(key_hash)
        if lookup is None:
            lookup = asyncio.create_task(self._look_up(key_hash))
            self._lookups[key_hash] = lookup
            lookup.add_done_callback(lambda _: self._lookups.pop(key_hash, None))
        # A client that goes away must not cancel the look-up that others wait for.
        return await asyncio.shield(lookup)

    async def _look_up(self, key_hash: bytes) -> _FoundKey | None:
        with translated_failures():
            async with self._database.connection() as connection:
                row = (await connection.execute(_FIND, {"hash": key_hash})).one_or_none()
        found = None
        if row is not None:
            principal = Principal(
                tenant_id=TenantId(row.tenant_id),
                tenant_name=row.tenant_name,
                subject=row.name,
                scopes=frozenset(Scope(scope) for scope in row.scopes if scope in Scope.__members__),
                agent_id=row.agent_id,
            )
            found = _FoundKey(principal, row.expires_at)
        self._found[key_hash] = found
        return found
