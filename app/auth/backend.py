"""From an Authorization header to a principal."""

from app.auth.api_keys import ApiKeyAuthenticator
from app.auth.principal import Principal
from app.errors import Unauthenticated

_REMEDY = "send the header `Authorization: Bearer <API key>`"


class Authenticator:
    """Knows every kind of credential. The tenant comes from the credential and from nowhere else."""

    def __init__(self, api_keys: ApiKeyAuthenticator) -> None:
        self._api_keys = api_keys

    async def authenticate(self, authorization: str | None) -> Principal:
        """Return the caller; raise `Unauthenticated` that says what to send."""
        if not authorization:
            raise Unauthenticated(f"a credential is missing; {_REMEDY}")
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise Unauthenticated(f"the Authorization header is malformed; {_REMEDY}")
        return await self._api_keys.authenticate(secret.strip())
