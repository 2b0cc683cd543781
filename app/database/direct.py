"""Connections of their own, outside the pool, for what lives as long as the process does."""

from typing import Any

import asyncpg
from sqlalchemy import URL

from app.database.silence import end_when_silent


async def connect_directly(url: URL, application_name: str, **server_settings: str) -> asyncpg.Connection:
    """Connect once; whoever asks closes the connection. Raises what the driver raises."""
    arguments: dict[str, Any] = {
        "host": url.host, "port": url.port, "user": url.username, "password": url.password, "database": url.database,
        "timeout": 10, **url.query,
    }  # fmt: skip
    named = {"application_name": application_name, "TimeZone": "UTC", **server_settings}
    connection: asyncpg.Connection = await asyncpg.connect(**arguments, server_settings=named)
    end_when_silent(connection)
    return connection
