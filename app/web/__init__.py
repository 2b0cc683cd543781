"""The HTTP surroundings of the API: request log, health, metrics, GraphiQL."""
