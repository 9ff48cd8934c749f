"""The way to PostgreSQL: connections, tenant sessions, statements, quotas, the schema and the embedded server."""
