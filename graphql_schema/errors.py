"""Errors as GraphQL clients see them: a message, a stable code, the request id, and nothing of our insides."""

import re

from graphql import GraphQLError, GraphQLFormattedError

from app.errors import INTERNAL_MESSAGE, Path, QueryTooComplex, ServiceError, UserMistake
from app.observability.logging import get_logger
from app.observability.request import RequestRecord

_SUGGESTION = re.compile(r" Did you mean [^?]*\?")


log = get_logger("konstruct.graphql")


def mask_error(error: GraphQLError, record: RequestRecord) -> None:
    """Rewrite an error, in place, into what may be sent; unexpected ones are logged in full."""
    if error.extensions and "requestId" in error.extensions:
        return
    original = _original(error)
    extensions: dict[str, object] = {}
    code, message = "BAD_USER_INPUT", error.message
    if isinstance(original, ServiceError):
        code, message = original.code, original.message
        if isinstance(original, UserMistake):
            extensions["field"] = api_path(original.path)
            message = mistake_message(original)
    elif isinstance(original, RecursionError):
        code, message = QueryTooComplex.code, "the query is nested too deeply"
    elif isinstance(original, ValueError) and error.path is None:
        # A literal that Python can't read at all, such as an integer of thousands of digits.
        message = "a value in the document can't be read; its number has too many digits"
    elif original is not None and not isinstance(original, GraphQLError):
        # What is left without an original is about the client's own document: its syntax, its validity, its variables.
        code, message = "INTERNAL", INTERNAL_MESSAGE
        log.error("resolver_failed", request_id=record.request_id, path=error.path, exc_info=original)
    record.note_error(code)
    error.message = printable(message)
    error.extensions = {"code": code, **extensions, "requestId": record.request_id}


def hide_suggestions(error: GraphQLError) -> None:
    """Take graphql-core's guesses at what was meant out of a message: they would spell out the schema to strangers."""
    error.message = _SUGGESTION.sub("", error.message)


def mistake_message(mistake: UserMistake) -> str:
    """Say what is wrong where, with the field spelt as in the API."""
    path = api_path(mistake.path)
    return printable(f"{'.'.join(path)}: {mistake.reason}" if path else mistake.reason)


def request_error(code: str, message: str, record: RequestRecord) -> GraphQLFormattedError:
    """Return an error of the request as a whole, outside of GraphQL execution."""
    record.note_error(code)
    return {"message": message, "extensions": {"code": code, "requestId": record.request_id}}


def api_path(path: Path) -> list[str]:
    """Spell a path as the API does: camelCase names down to free-form JSON, positions as text."""
    spelled: list[str] = []
    is_free_form = False
    for part in path:
        spelled.append(str(part) if is_free_form or isinstance(part, int) else _camel_case(part))
        is_free_form = is_free_form or part == "metadata"
    return [printable(part) for part in spelled]


def _camel_case(name: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), name)


def printable(text: str) -> str:
    """Return the text as UTF-8 can carry it: a client's lone surrogates can't be sent back."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\u0000")


def _original(error: GraphQLError) -> BaseException | None:
    original: BaseException | None = error.original_error
    while isinstance(original, GraphQLError) and original.original_error is not None:
        original = original.original_error
    return original
