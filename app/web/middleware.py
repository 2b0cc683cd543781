"""The outermost layer: a request id, one log line and the metrics of each request, and a last resort for errors."""

import asyncio
import logging
import re
import time

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import INTERNAL_MESSAGE, MAY_BE_STORED
from app.observability.logging import get_logger
from app.observability.metrics import Metrics
from app.observability.request import RequestRecord, start_record

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

# Everything else is one label value, so that a scanner can't make the metrics grow.
_KNOWN_ROUTES = frozenset({"/graphql", "/graphiql", "/export/audit-events", "/healthz", "/readyz", "/metrics"})

# Probes every few seconds would drown the requests.
_QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})

_STOPPING = f"the server is stopping and could not answer in time; if this was a mutation, {MAY_BE_STORED}"

log = get_logger("konstruct.request")


class RequestMiddleware:
    """Observes every HTTP request and WebSocket connection."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and record how it went."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        record = start_record(scope, _given_id(scope))
        route = _route_of(scope)
        answer = _Answer(scope, send, record)
        started = time.perf_counter()
        self._metrics.in_flight += 1
        try:
            await self._app(scope, receive, answer.send)
        except asyncio.CancelledError:
            # The server stops and could wait no longer. What was handed to the writer may still be committed.
            await answer.fail(503, "UNAVAILABLE", _STOPPING)
            raise
        except Exception:
            log.exception("request_failed", request_id=record.request_id, path=route)
            await answer.fail(500, "INTERNAL", INTERNAL_MESSAGE)
        finally:
            self._metrics.in_flight -= 1
            seconds = time.perf_counter() - started
            self._metrics.observe_request(route, answer.status, seconds)
            if route not in _QUIET_ROUTES:
                _write_line(scope, record, route, answer.status, seconds)


async def leave_to_request_middleware(_request: Request, error: Exception) -> Response:
    """Keep Starlette from answering an unexpected error in its own way."""
    raise error


class Shortcut:
    """Leads the requests of one path to its endpoint, past the router and what stands before it."""

    def __init__(self, app: ASGIApp, path: str, endpoint: ASGIApp) -> None:
        self._app = app
        self._path = path
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and scope["path"] == scope.get("root_path", "") + self._path:
            await self._endpoint(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _route_of(scope: Scope) -> str:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    if path.startswith("/graphiql/"):
        return "/graphiql"
    return path if path in _KNOWN_ROUTES else "other"


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            return text if _REQUEST_ID.fullmatch(text) else None
    return None


class _Answer:
    """Passes an answer on to the client, and knows how far it has come."""

    def __init__(self, scope: Scope, send: Send, record: RequestRecord) -> None:
        self._is_http = scope["type"] == "http"
        self._send = send
        self._record = record
        self._has_begun = False
        self.status = 500

    async def send(self, message: Message) -> None:
        """Pass one message on."""
        kind = message["type"]
        if kind == "http.response.start":
            self.status = message["status"]
            request_id = (b"x-request-id", self._record.request_id.encode("latin-1"))
            message["headers"] = [*message.get("headers", ()), request_id]
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.close" and not self._has_begun:
            self.status = 403
        self._has_begun = True
        await self._send(message)

    async def fail(self, status: int, code: str, message: str) -> None:
        """Answer with an error, unless an answer has begun."""
        if self._has_begun or not self._is_http:
            return
        self._record.note_error(code)
        error = {"message": message, "extensions": {"code": code, "requestId": self._record.request_id}}
        body = orjson.dumps({"errors": [error]})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def _write_line(scope: Scope, record: RequestRecord, route: str, status: int, seconds: float) -> None:
    if not log.is_enabled_for(logging.INFO):
        return
    log.info(
        "request",
        method=scope.get("method", "WEBSOCKET"),
        route=route,
        status=status,
        duration_ms=round(seconds * 1000, 2),
        request_id=record.request_id,
        tenant_id=record.tenant_id,
        subject=record.subject,
        operation=record.operation,
        error_codes=record.error_codes or None,
    )
