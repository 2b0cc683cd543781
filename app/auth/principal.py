"""The caller of one request, as its credential proves it."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from app.database.tenant_owned import TenantId
from app.errors import Forbidden


class Scope(StrEnum):
    """What a credential may do."""

    AUDIT_WRITE = "AUDIT_WRITE"
    AUDIT_READ = "AUDIT_READ"
    KB_READ = "KB_READ"
    KB_WRITE = "KB_WRITE"


@dataclass(frozen=True, slots=True)
class Principal:
    """A tenant's credential in use. `agent_id` is set when the credential is bound to one agent."""

    tenant_id: TenantId
    tenant_name: str
    subject: str
    scopes: frozenset[Scope]
    agent_id: UUID | None = None

    def require(self, scope: Scope) -> None:
        """Raise `Forbidden` unless the credential has the scope."""
        if scope not in self.scopes:
            raise Forbidden(f"this credential lacks the scope {scope}; ask an operator for a key that has it")
