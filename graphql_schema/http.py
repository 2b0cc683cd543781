"""GraphQL over HTTP, as the specification has it: reading a request, and the status and media type of the answer.

A request that is not well formed is answered here with 4xx and a JSON body, whatever bytes it is made of.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from graphql_schema.scalars import read_number

APPLICATION_JSON = "application/json"
GRAPHQL_RESPONSE = "application/graphql-response+json"
EVENT_STREAM = "text/event-stream"


class MalformedRequest(Exception):
    """The request is no GraphQL request; `status` and the message are the answer."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


class RoundedVariables(dict[str, Any]):
    """Variables whose fractions are binary floating point, as far as that goes."""

    def __init__(self, rounded: Mapping[str, Any], body: bytes) -> None:
        super().__init__(rounded)
        self._body = body

    def exact(self) -> dict[str, Any]:
        """Return the variables again, with the digits of each number as they were written."""
        variables: dict[str, Any] = _EXACT_DECODER.decode(self._body.decode())["variables"]
        return variables


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """A well-formed request."""

    query: str
    variables: dict[str, Any] | None
    operation_name: str | None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as it comes in; of a header that is given twice, the first counts."""

    method: str
    headers: Mapping[bytes, bytes]
    query_string: bytes
    receive: Receive

    @classmethod
    def from_scope(cls, scope: Scope, receive: Receive) -> "Incoming":
        """Take a request from the server."""
        return cls(scope["method"], dict(reversed(scope["headers"])), scope["query_string"], receive)

    def header(self, name: bytes) -> str | None:
        """Return a header's value by its name in small letters."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


def trace_of(incoming: Incoming) -> str | None:
    """Return the run that a request belongs to: by W3C's `traceparent`, or else by `X-Trace-Id`."""
    found = _TRACE_PARENT.match(incoming.header(b"traceparent") or "")
    return found.group(1) if found else name_in(incoming, b"x-trace-id")


def name_in(incoming: Incoming, header: bytes) -> str | None:
    """Return a header that names something; what could not be stored as a name is as if left out."""
    name = incoming.header(header)
    return name if name is not None and _NAME.fullmatch(name) else None


_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-|$)")
_NAME = re.compile(r"[\x21-\x7e]{1,512}")


def negotiate(accept: str | None) -> str:
    """Return the media type to answer with; raise `MalformedRequest` (406) when the client takes neither."""
    if not accept or accept == "*/*":
        return APPLICATION_JSON
    for part in accept.lower().split(","):
        media_type = part.partition(";")[0].strip()
        if media_type in {APPLICATION_JSON, GRAPHQL_RESPONSE, EVENT_STREAM}:
            return media_type
        if media_type in {"*/*", "application/*"}:
            return APPLICATION_JSON
    offered = f"{GRAPHQL_RESPONSE}, {APPLICATION_JSON} or, for subscriptions, {EVENT_STREAM}"
    raise MalformedRequest(406, f"the answer is {offered}; accept one of them")


async def read_request(incoming: Incoming, max_bytes: int) -> GraphQLRequest:
    """Read a GET or POST request; raise `MalformedRequest` for anything else."""
    if incoming.method == "GET":
        return _from_query_string(incoming)
    if incoming.method != "POST":
        raise MalformedRequest(405, "use POST, or GET for queries", {"Allow": "GET, POST"})
    content_type = incoming.header(b"content-type") or ""
    if content_type != APPLICATION_JSON:
        media_type, _, parameters = content_type.lower().partition(";")
        charset = parameters.partition("charset=")[2].strip(' "')
        if media_type.strip() != APPLICATION_JSON or charset not in {"", "utf-8", "utf8"}:
            raise MalformedRequest(415, f"send the header Content-Type: {APPLICATION_JSON}")
    encoding = incoming.header(b"content-encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise MalformedRequest(415, "send the body without a Content-Encoding")
    return _from_parameters(_decode_body(await _read_body(incoming, max_bytes)))


def decode_json(text: bytes | str) -> Any:
    """Parse strict JSON with integers of any size; raise `MalformedRequest` for NaN, bad UTF-8 or endless nesting."""
    if isinstance(text, bytes) and _LONG_NUMBER not in text.translate(_DIGITS):
        # Where orjson succeeds it comes to the same; it knows no integers beyond 64 bits, and less of what is wrong.
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(text)
    try:
        return _DECODER.decode(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError:
        raise MalformedRequest(400, "the JSON is nested too deeply") from None
    except ValueError as error:
        raise MalformedRequest(400, f"the body is not JSON in UTF-8: {error}") from None


def _decode_body(body: bytes) -> Any:
    """Parse a body; its variables can be read again digit for digit, which few need and all would pay for."""
    parameters = decode_json(body)
    if isinstance(parameters, dict) and type(parameters.get("variables")) is dict and b"." in body:
        parameters["variables"] = RoundedVariables(parameters["variables"], body)
    return parameters


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# The longest integers of 64 bits have 19 or 20 digits: so many in a row, when all digits are written as 0.
_LONG_NUMBER = b"0" * 19
_DIGITS = bytes(ord("0") if chr(byte).isdecimal() else ord(" ") for byte in range(256))
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_EXACT_DECODER = json.JSONDecoder(parse_float=read_number, parse_constant=_refuse_constant)


async def _read_body(incoming: Incoming, max_bytes: int) -> bytes:
    too_large = f"the body may have at most {max_bytes} bytes"
    declared = incoming.header(b"content-length") or ""
    if declared.isdecimal() and int(declared) > max_bytes:
        raise MalformedRequest(413, too_large)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await incoming.receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise MalformedRequest(413, too_large)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _from_query_string(incoming: Incoming) -> GraphQLRequest:
    parameters: dict[str, Any] = dict(QueryParams(incoming.query_string))
    for name in ("variables", "extensions"):
        if name in parameters:
            parameters[name] = decode_json(parameters[name])
    return _from_parameters(parameters)


def _from_parameters(parameters: Any) -> GraphQLRequest:
    if isinstance(parameters, list):
        raise MalformedRequest(400, "batches are not supported; send one operation a request")
    if not isinstance(parameters, dict):
        raise MalformedRequest(400, 'the body must be a JSON object, such as {"query": "{ viewer { tenantName } }"}')
    query = parameters.get("query")
    if not isinstance(query, str) or not query.strip():
        raise MalformedRequest(400, "`query` must be the text of a GraphQL document")
    variables = parameters.get("variables")
    if not isinstance(variables, dict | None):
        raise MalformedRequest(400, "`variables` must be an object")
    operation_name = parameters.get("operationName")
    if not isinstance(operation_name, str | None):
        raise MalformedRequest(400, "`operationName` must be text")
    if not isinstance(parameters.get("extensions"), dict | None):
        raise MalformedRequest(400, "`extensions` must be an object")
    return GraphQLRequest(query, variables, operation_name)
