"""The knowledge base: documents in, passages found by meaning out."""
