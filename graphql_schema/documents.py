"""Documents that were parsed and validated before, kept for the next request with the same text.

Clients send the same few documents over and over, and parsing and validating one costs more than a point look-up. But
anybody may send any number of different ones, so the cache is bounded in entries and in bytes of text (a syntax tree
takes some hundred times its text), keeps no long document, and takes a document in only when it is seen again: one-off
documents can neither fill the memory nor push out what is in use. Each tenant has entries of its own: the speed of a
shared one would tell what another tenant had asked.
"""

import hashlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from cachetools import LRUCache
from graphql import DocumentNode, OperationDefinitionNode
from strawberry.schema.exceptions import CannotGetOperationTypeError

from app.errors import InvalidInput
from app.settings import Limits
from graphql_schema.limits import check_document
from graphql_schema.plans import DocumentPlans

_Key = tuple[UUID | None, str]

_CACHED_TEXT_BYTES = 256 * 1024
_LONGEST_DOCUMENT = 16 * 1024
_REMEMBERED_SIGHTINGS = 4096


class KnownDocument:
    """A parsed document with all that is found out about it once."""

    def __init__(self, node: DocumentNode) -> None:
        self.node = node
        self.plans = DocumentPlans(node)
        self._is_checked = False

    def operation(self, name: str | None) -> OperationDefinitionNode:
        """Return the operation of the name, or the only one; raise `CannotGetOperationTypeError` when there is none.

        Raises `InvalidInput` when there are several and none was named.
        """
        operations = [node for node in self.node.definitions if isinstance(node, OperationDefinitionNode)]
        if name is None and len(operations) > 1:
            raise InvalidInput(("operation_name",), "must name one of the document's operations")
        for operation in operations:
            if name is None or (operation.name is not None and operation.name.value == name):
                return operation
        raise CannotGetOperationTypeError(name)

    def check(self, variables: Mapping[str, Any] | None, limits: Limits) -> None:
        """Raise `QueryTooComplex` when it asks for more than the limits allow; reckoned once unless variables count."""
        if not self._is_checked:
            self._is_checked = not check_document(self.node, variables, limits)


class DocumentCache:
    """Valid documents by their text, for one schema."""

    def __init__(self) -> None:
        self._documents: LRUCache[_Key, KnownDocument] = LRUCache(_CACHED_TEXT_BYTES, getsizeof=_size)
        self._sightings: LRUCache[bytes, bool] = LRUCache(_REMEMBERED_SIGHTINGS)

    def find(self, owner: UUID | None, text: str) -> KnownDocument | None:
        """Return the document of this very text, if it is known to be valid."""
        try:
            return self._documents[owner, text]
        except KeyError:
            return None

    def remember(self, owner: UUID | None, text: str, document: KnownDocument) -> None:
        """Keep a valid document, once its text has been seen before."""
        if len(text) > _LONGEST_DOCUMENT:
            return
        sighting = hashlib.sha256(f"{owner} {text}".encode("utf-8", "surrogatepass")).digest()
        if sighting in self._sightings:
            self._documents[owner, text] = document
        else:
            self._sightings[sighting] = True


def _size(document: KnownDocument) -> int:
    # The text's length; a document always knows where it ends.
    return _LONGEST_DOCUMENT if document.node.loc is None else document.node.loc.end
