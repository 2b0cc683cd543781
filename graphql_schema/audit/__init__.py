"""The audit trail in GraphQL."""
