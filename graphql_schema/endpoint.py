"""The /graphql endpoint: HTTP by our own reading of the specification, WebSockets by Strawberry's handler.

A client that accepts `text/event-stream` gets its results as server-sent events, as the GraphQL over SSE protocol has
them in its "distinct connections mode": an event `next` for each result, then `complete`.

The credential is checked at the door, before anything of the document is looked at; on a WebSocket it comes in the
payload of connection_init. Where introspection is allowed (development), a request without a credential may pass, so
that an IDE can load the schema; every field that holds data demands the caller itself.
"""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType
from strawberry.types.unset import UNSET, UnsetType

from app.errors import ServiceError, Unauthenticated
from app.observability.request import RequestRecord, current_record
from graphql_schema.context import Context, Services
from graphql_schema.errors import printable, request_error
from graphql_schema.http import (
    APPLICATION_JSON,
    EVENT_STREAM,
    GRAPHQL_RESPONSE,
    GraphQLRequest,
    Incoming,
    MalformedRequest,
    name_in,
    negotiate,
    read_request,
    trace_of,
)
from graphql_schema.scalars import to_json
from graphql_schema.schema import KonstructSchema

# As a WebSocket's client has; see graphql_schema/audit/subscriptions.py.
_SLOW_CLIENT_SECONDS = 30

_READING = (OperationType.QUERY,)
_READING_AND_WRITING = (OperationType.QUERY, OperationType.MUTATION)

STATUS_OF_CODE = {"UNAUTHENTICATED": 401, "FORBIDDEN": 403, "UNAVAILABLE": 503, "TIMEOUT": 504}


_CONTENT_TYPES = {
    media_type: (b"content-type", f"{media_type}; charset=utf-8".encode("latin-1"))
    for media_type in (APPLICATION_JSON, GRAPHQL_RESPONSE)
}


@dataclass(slots=True)
class Answer:
    """A whole answer, ready to be sent."""

    body: bytes
    status: int
    media_type: str
    headers: Mapping[str, str]

    async def send(self, send: Send) -> None:
        """Send it to the client."""
        headers = [_CONTENT_TYPES[self.media_type], (b"content-length", b"%d" % len(self.body))]
        for name, value in self.headers.items():
            headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


class GraphQLEndpoint(GraphQL[Context, None]):
    """The ASGI application behind /graphql."""

    def __init__(
        self,
        schema: KonstructSchema,
        services: Services,
        *,
        allow_anonymous: bool,
        allowed_origins: tuple[str, ...],
    ) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            allowed_origins=allowed_origins,
        )
        self._services = services
        self._allow_anonymous = allow_anonymous

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request or serve one WebSocket connection."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        answer = await self._answer(Incoming.from_scope(scope, receive), current_record(scope))
        if isinstance(answer, Answer):
            await answer.send(send)
        else:
            await answer(scope, receive, send)

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:  # noqa: ARG002
        """Return the context of a WebSocket connection; its caller is known after connection_init."""
        websocket = request if isinstance(request, WebSocket) else None
        return Context(self._services, current_record(request.scope), connection_params={}, websocket=websocket)

    async def on_ws_connect(self, context: Context) -> UnsetType | dict[str, object] | None:
        """Prove the caller of a WebSocket connection from connection_init, or close with 4403."""
        parameters = context.connection_params or {}
        given = next((value for key, value in parameters.items() if key.lower() == "authorization"), None)
        try:
            await context.authenticate(given if isinstance(given, str) else None)
        except ServiceError as error:
            raise ConnectionRejectionError({"code": error.code}) from None
        unset: UnsetType = UNSET
        return unset

    def decode_json(self, data: str | bytes) -> object:
        """Parse a WebSocket message; anything but an object is answered as invalid JSON."""
        try:
            message = json.loads(data)
        except RecursionError:
            raise json.JSONDecodeError("nested too deeply", "", 0) from None
        if not isinstance(message, dict):
            raise json.JSONDecodeError("expected an object", "", 0)
        return message

    def encode_json(self, data: object) -> str:
        """Write a WebSocket message."""
        return to_json(data).decode()

    async def _answer(self, incoming: Incoming, record: RequestRecord) -> Answer | EventSourceResponse:
        media_type = APPLICATION_JSON
        accepted = None
        try:
            accepted = negotiate(incoming.header(b"accept"))
            if accepted != EVENT_STREAM:
                media_type = accepted
            context = await self._authenticated(incoming, record)
            parsed = await read_request(incoming, self._services.limits.request_bytes)
        except MalformedRequest as error:
            errors = [request_error("BAD_USER_INPUT", printable(error.message), record)]
            return _json({"errors": errors}, error.status, media_type, error.headers)
        except ServiceError as error:
            return _failure(error, record, media_type)
        if accepted == EVENT_STREAM:
            events = self._events(parsed, context, incoming.method)
            return EventSourceResponse(events, send_timeout=_SLOW_CLIENT_SECONDS, sep="\n")
        return await self._execute(parsed, context, incoming.method, media_type)

    async def _events(
        self, parsed: GraphQLRequest, context: Context, method: str
    ) -> AsyncGenerator[dict[str, str], None]:
        allowed = tuple(OperationType) if method == "POST" else (OperationType.QUERY, OperationType.SUBSCRIPTION)
        results = await self.schema.stream(
            parsed.query,
            variable_values=parsed.variables,
            context_value=context,
            operation_name=parsed.operation_name,
            allowed_operation_types=allowed,
        )
        async with aclosing(cast("AsyncGenerator[ExecutionResult, None]", results)) as stream:
            async for result in stream:
                body: dict[str, Any] = {"data": result.data}
                if result.errors:
                    body["errors"] = [error.formatted for error in result.errors]
                yield {"event": "next", "data": to_json(body).decode()}
        yield {"event": "complete", "data": ""}

    async def _authenticated(self, incoming: Incoming, record: RequestRecord) -> Context:
        context = Context(
            self._services, record, trace_id=trace_of(incoming), session_id=name_in(incoming, b"x-session-id")
        )
        authorization = incoming.header(b"authorization")
        if authorization is not None or not self._allow_anonymous:
            await context.authenticate(authorization)
        return context

    async def _execute(self, parsed: GraphQLRequest, context: Context, method: str, media_type: str) -> Answer:
        allowed = _READING if method == "GET" else _READING_AND_WRITING
        record = context.record
        try:
            result = await self.schema.execute(
                parsed.query,
                variable_values=parsed.variables,
                context_value=context,
                operation_name=parsed.operation_name,
                allowed_operation_types=allowed,
            )
        except CannotGetOperationTypeError:
            message = "the document holds no operation of this name; set `operationName` to one of its operations"
            return _refusal(message, 400, record, media_type)
        except InvalidOperationTypeError:
            message = "use POST for mutations, and a WebSocket or `Accept: text/event-stream` for subscriptions"
            return _refusal(message, 405, record, media_type, {"Allow": "POST"})
        return _result(result, context, media_type)


def _result(result: ExecutionResult, context: Context, media_type: str) -> Answer:
    errors = result.errors or []
    body: dict[str, Any] = {"errors": [error.formatted for error in errors]} if errors else {}
    # Nothing was executed: the document or its variables are at fault, no field is.
    if isinstance(result, PreExecutionError) or (result.data is None and not any(error.path for error in errors)):
        # The older media type answers a request error with 200, since its clients look at the body only.
        return _json(body, 400 if media_type == GRAPHQL_RESPONSE else 200, media_type)
    body["data"] = result.data
    is_anonymous = context.principal is None and any(
        (error.extensions or {}).get("code") == Unauthenticated.code for error in errors
    )
    headers = {"WWW-Authenticate": "Bearer"} if is_anonymous else {}
    return _json(body, 401 if is_anonymous else 200, media_type, headers)


def _failure(error: ServiceError, record: RequestRecord, media_type: str) -> Answer:
    status = STATUS_OF_CODE.get(error.code, 400)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return _json({"errors": [request_error(error.code, error.message, record)]}, status, media_type, headers)


def _refusal(
    message: str, status: int, record: RequestRecord, media_type: str, headers: Mapping[str, str] | None = None
) -> Answer:
    return _json({"errors": [request_error("BAD_USER_INPUT", message, record)]}, status, media_type, headers)


def _json(body: dict[str, Any], status: int, media_type: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(to_json(body), status, media_type, headers or {})
