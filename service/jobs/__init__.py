"""The background queue."""
