"""PostgreSQL: the engine, the tenant sessions that are the only door to tenant rows, and its migrations."""
