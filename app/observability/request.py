"""What is known of the request in progress.

One mutable object in the ASGI scope, filled in by whoever learns something: context variables set inside a resolver
would be lost to the middleware as soon as two root fields run concurrently.
"""

import random
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

_SCOPE_KEY = "konstruct.request"
_NOTED_ERRORS = 20


def _new_id() -> str:
    # Tells requests apart; it is no secret.
    return f"{random.getrandbits(64):016x}"


@dataclass(slots=True)
class RequestRecord:
    """Becomes one log line when the request ends."""

    request_id: str = field(default_factory=_new_id)
    tenant_id: str | None = None
    subject: str | None = None
    operation: str | None = None
    error_codes: list[str] = field(default_factory=list)

    def note_error(self, code: str) -> None:
        """Add the code of an error that was sent; a WebSocket's record keeps the first ones only."""
        if len(self.error_codes) < _NOTED_ERRORS:
            self.error_codes.append(code)


def start_record(scope: MutableMapping[str, Any], request_id: str | None) -> RequestRecord:
    """Begin the record of a request."""
    record = RequestRecord() if request_id is None else RequestRecord(request_id)
    scope[_SCOPE_KEY] = record
    return record


def current_record(scope: MutableMapping[str, Any]) -> RequestRecord:
    """Return the record of the request; a new one where no middleware began it."""
    record: RequestRecord | None = scope.get(_SCOPE_KEY)
    return start_record(scope, None) if record is None else record
