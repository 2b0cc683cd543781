"""The outermost layer: a request id, one log line and the metrics of each request, and a last resort for errors."""

import re
import time

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.observability.logging import get_logger
from app.observability.metrics import Metrics
from app.observability.request import RequestRecord, start_record

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

# Everything else is one label value, so that a scanner can't make the metrics grow.
_KNOWN_ROUTES = frozenset({"/graphql", "/graphiql", "/healthz", "/readyz", "/metrics"})

# Probes every few seconds would drown the requests.
_QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})

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
        given = Headers(scope=scope).get("x-request-id")
        record = start_record(scope, given if given is not None and _REQUEST_ID.fullmatch(given) else None)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        route = path if path in _KNOWN_ROUTES else "other"
        status = 500
        started = time.perf_counter()

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = record.request_id
            elif message["type"] == "websocket.accept":
                status = 101
            elif message["type"] == "websocket.close" and status != 101:
                status = 403
            await send(message)

        with self._metrics.in_flight.track_inprogress():
            try:
                await self._app(scope, receive, send_observed)
            except Exception:
                log.exception("request_failed", request_id=record.request_id, path=route)
                if scope["type"] == "http" and status == 500:
                    await _send_internal_error(record, send_observed)
            finally:
                seconds = time.perf_counter() - started
                self._metrics.requests.labels(route, str(status)).inc()
                self._metrics.request_seconds.labels(route).observe(seconds)
                if route not in _QUIET_ROUTES:
                    _write_line(scope, record, route, status, seconds)


def _write_line(scope: Scope, record: RequestRecord, route: str, status: int, seconds: float) -> None:
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


async def _send_internal_error(record: RequestRecord, send: Send) -> None:
    error = {
        "message": "an internal error occurred; the operator finds it in the log by the request id",
        "extensions": {"code": "INTERNAL", "requestId": record.request_id},
    }
    body = orjson.dumps({"errors": [error]})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})
