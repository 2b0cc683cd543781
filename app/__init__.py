"""Konstruct without GraphQL: the audit trail and the knowledge base as a library."""
