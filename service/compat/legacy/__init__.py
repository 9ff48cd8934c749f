"""The legacy recognizer's HTTP API, at its own paths: its callers change the address and nothing else.

It hides that datasets are kept and searched in SQL. Facts: docs/migrating-from-the-legacy-recognizer.md.
"""
