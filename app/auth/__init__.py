"""Who is calling: credentials, and the principal that they prove."""
