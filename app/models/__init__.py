"""The shared ORM: tables only, no behaviour."""

from app.models.api_key import ApiKey
from app.models.audit_event import AuditEvent, AuditIdempotencyKey
from app.models.audit_log import AuditLogCursor, AuditLogLeaf, AuditLogState
from app.models.base import Base
from app.models.kb import EmbeddingProfile, KBChunk, KnowledgeBaseDocument
from app.models.tenant import Tenant

__all__ = [
    "ApiKey",
    "AuditEvent",
    "AuditIdempotencyKey",
    "AuditLogCursor",
    "AuditLogLeaf",
    "AuditLogState",
    "Base",
    "EmbeddingProfile",
    "KBChunk",
    "KnowledgeBaseDocument",
    "Tenant",
]
