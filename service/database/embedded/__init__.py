"""The embedded PostgreSQL: its files, its process, and one server shared by several programs."""
