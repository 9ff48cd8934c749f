"""Pixels to embeddings. No SQL, no HTTP."""
