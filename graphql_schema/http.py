"""GraphQL over HTTP, as the specification has it: reading a request, and the status and media type of the answer.

A request that is not well formed is answered here with 4xx and a JSON body, whatever bytes it is made of.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from starlette.requests import Request

from graphql_schema.scalars import WrittenFloat

APPLICATION_JSON = "application/json"
GRAPHQL_RESPONSE = "application/graphql-response+json"


class MalformedRequest(Exception):
    """The request is no GraphQL request; `status` and the message are the answer."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """A well-formed request."""

    query: str
    variables: dict[str, Any] | None
    operation_name: str | None


def negotiate(accept: str | None) -> str:
    """Return the media type to answer with; raise `MalformedRequest` (406) when the client takes neither."""
    if not accept:
        return APPLICATION_JSON
    for part in accept.lower().split(","):
        media_type = part.partition(";")[0].strip()
        if media_type in {APPLICATION_JSON, GRAPHQL_RESPONSE}:
            return media_type
        if media_type in {"*/*", "application/*"}:
            return APPLICATION_JSON
    raise MalformedRequest(406, f"the answer is {GRAPHQL_RESPONSE} or {APPLICATION_JSON}; accept one of them")


async def read_request(request: Request, max_bytes: int) -> GraphQLRequest:
    """Read a GET or POST request; raise `MalformedRequest` for anything else."""
    if request.method == "GET":
        return _from_query_string(request)
    if request.method != "POST":
        raise MalformedRequest(405, "use POST, or GET for queries", {"Allow": "GET, POST"})
    media_type, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    charset = parameters.partition("charset=")[2].strip(' "')
    if media_type.strip() != APPLICATION_JSON or charset not in {"", "utf-8", "utf8"}:
        raise MalformedRequest(415, f"send the header Content-Type: {APPLICATION_JSON}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise MalformedRequest(415, "send the body without a Content-Encoding")
    return _from_parameters(decode_json(await _read_body(request, max_bytes)))


def decode_json(text: bytes | str) -> Any:
    """Parse strict JSON with integers of any size; raise `MalformedRequest` for NaN, bad UTF-8 or endless nesting."""
    try:
        return json.loads(
            text if isinstance(text, str) else text.decode("utf-8"),
            parse_float=WrittenFloat,
            parse_constant=_refuse_constant,
        )
    except RecursionError:
        raise MalformedRequest(400, "the JSON is nested too deeply") from None
    except ValueError as error:
        raise MalformedRequest(400, f"the body is not JSON in UTF-8: {error}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


async def _read_body(request: Request, max_bytes: int) -> bytes:
    too_large = MalformedRequest(413, f"the body may have at most {max_bytes} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def _from_query_string(request: Request) -> GraphQLRequest:
    parameters: dict[str, Any] = dict(request.query_params)
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
