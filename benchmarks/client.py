"""A plain GraphQL client over one keep-alive connection."""

import http.client
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


class Refused(Exception):
    """The answer holds errors."""

    def __init__(self, document: str, errors: list[dict[str, Any]]) -> None:
        super().__init__(f"{document} was answered with {errors}")
        self.messages = [str(error.get("message")) for error in errors]

    def lacks(self, name: str) -> bool:
        """Tell whether the schema does not know the field or the input field of this name."""
        unknown = re.compile(rf"Cannot query field ['\"]{name}['\"]|unknown field ['\"]{name}['\"]")
        return any(unknown.search(message) for message in self.messages)


class Client:
    """Sends one request at a time. Not for several threads."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=120)
        self._path = parts.path
        self._headers = {"content-type": "application/json", **headers}

    def send(self, body: bytes) -> bytes:
        """Send a ready body and return the answer's."""
        self._connection.request("POST", self._path, body, self._headers)
        return self._connection.getresponse().read()

    def ask(self, document: str, variables: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Return the answer's data; raise `Refused` when it holds errors."""
        answer = json.loads(self.send(encode(document, variables).encode()))
        if answer.get("errors"):
            raise Refused(document, answer["errors"])
        data: dict[str, Any] = answer["data"]
        return data

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def encode(document: str, variables: Mapping[str, object] | None = None) -> str:
    """Return the body of a request."""
    return json.dumps({"query": document, "variables": variables or {}})
