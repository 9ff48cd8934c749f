"""The HTTP API of the legacy recognizer, at its own paths: callers change the address and nothing else.

Datasets become galleries and are searched in SQL, which callers do not see. See
docs/migrating-from-the-legacy-recognizer.md.
"""
