"""The database schema: migrating it, and the security rules of every table."""
