"""Encoders: pixels in, faces and embeddings out. No SQL, no HTTP."""
