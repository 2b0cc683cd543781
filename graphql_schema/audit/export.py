"""`GET /export/audit-events`: the trail as a file, with the filter of the API.

Query parameters, all optional: `format` (ndjson or csv), `filter` (the API's AuditEventFilter as JSON) and `after` (the
last sequence of the part one has). It is sent as it is read, compressed when the client takes gzip.
"""

import asyncio
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from app.audit.export import Export, ExportFormat, begin_export
from app.audit.filter import AuditEventFilter
from app.auth.principal import Scope
from app.errors import InvalidInput, ServiceError
from app.observability.request import current_record
from graphql_schema.audit.filter_json import FilterReader
from graphql_schema.context import Context, Services
from graphql_schema.endpoint import STATUS_OF_CODE
from graphql_schema.errors import request_error

# Quick to make; a level more costs twice the time for a tenth of the size.
_GZIP_LEVEL = 1
_GZIP_WINDOW = 31

_PARAMETERS = {"format", "filter", "after"}


class ExportEndpoint:
    """The handler of the route."""

    def __init__(self, services: Services, filters: FilterReader) -> None:
        self._services = services
        self._filters = filters

    async def answer(self, request: Request) -> Response:
        """Answer with the events, or say why not."""
        record = current_record(request.scope)
        try:
            export = await self._begin(request, Context(self._services, record))
        except ServiceError as error:
            status = STATUS_OF_CODE.get(error.code, 400)
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
            return JSONResponse({"errors": [request_error(error.code, error.message, record)]}, status, headers)
        headers = {
            "Content-Disposition": f'attachment; filename="audit-events.{export.format.value}"',
            "Cache-Control": "no-store",
            "Vary": "Accept-Encoding",
        }
        parts = _texts(export)
        if "gzip" in request.headers.get("accept-encoding", "").lower():
            headers["Content-Encoding"] = "gzip"
            parts = _compressed(parts)
        return StreamingResponse(parts, headers=headers, media_type=export.format.media_type)

    async def _begin(self, request: Request, context: Context) -> Export:
        await context.authenticate(request.headers.get("authorization"))
        caller = context.require(Scope.AUDIT_READ)
        given = request.query_params
        for name in given:
            if name not in _PARAMETERS:
                raise InvalidInput((name,), f"is not known; there are {', '.join(sorted(_PARAMETERS))}")
        where = self._filters.read(given["filter"]) if "filter" in given else AuditEventFilter()
        return await begin_export(
            self._services.database,
            caller.tenant_id,
            where,
            context.limits,
            format=_format(given.get("format", ExportFormat.NDJSON.value)),
            after=_place(given.get("after", "-1")),
        )


def _format(text: str) -> ExportFormat:
    try:
        return ExportFormat(text)
    except ValueError:
        raise InvalidInput(("format",), f"must be {' or '.join(ExportFormat)}, got {text[:20]!r}") from None


def _place(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        raise InvalidInput(("after",), f"must be a sequence, such as 41, got {text[:20]!r}")
    return int(text)


async def _texts(export: Export) -> AsyncGenerator[bytes, None]:
    async with aclosing(export.parts()) as parts:
        async for part in parts:
            yield part.text


async def _compressed(texts: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    compressor: Any = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    async with aclosing(texts):
        async for text in texts:
            # In a thread, so that other requests are answered meanwhile. What is sent can be read at once.
            yield await asyncio.to_thread(_compress, compressor, text)
    yield compressor.flush()


def _compress(compressor: Any, text: bytes) -> bytes:
    compressed: bytes = compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return compressed
