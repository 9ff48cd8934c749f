"""Dialects of other services. Each has its own shape of errors."""
