"""The embedded PostgreSQL server: its files, its process, and how several programs share it."""
