"""The knowledge base in GraphQL."""
