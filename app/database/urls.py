"""PostgreSQL URLs as people write them, turned into what the driver takes."""

from pydantic import SecretStr
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.settings import SettingsError

_SCHEMES = {"postgres", "postgresql", "postgresql+asyncpg"}


def parse_database_url(value: SecretStr | None, variable: str) -> URL:
    """Return the SQLAlchemy URL for asyncpg; raise `SettingsError` that names the variable, never the value.

    libpq's `sslmode` and `channel_binding`, which managed databases put into their URLs, are understood.
    """
    if value is None:
        raise SettingsError(f"{variable} is not set; expected postgresql://user:password@host:5432/database")
    try:
        url = make_url(value.get_secret_value())
    except (ArgumentError, ValueError):
        raise SettingsError(f"{variable} is not a URL; write special characters in the password as %XX") from None
    if url.drivername not in _SCHEMES:
        raise SettingsError(f"{variable} must start with postgresql://")
    query = dict(url.query)
    query.pop("channel_binding", None)
    if sslmode := query.pop("sslmode", None):
        query["ssl"] = sslmode
    return url.set(drivername="postgresql+asyncpg", query=query)
