"""Dataset files: the legacy recognizer's shapes and NDJSON, read and written as streams of bounded memory.

No number loses a bit on the way in or out, and every error names the row, line or entry and the field.
"""
