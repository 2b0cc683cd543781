"""GraphQL in, service calls out: an adapter without SQL, models or environment."""
