"""Dataset files: the JSON formats of the legacy recognizer and NDJSON, read and written as streams in bounded memory.

Import and export keep every bit of a number. Every error names the row, line or entry, and the field.
"""
