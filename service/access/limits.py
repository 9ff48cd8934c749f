"""The largest values that a request or an option may set. The help of commands shows them: import nothing heavy."""

from datetime import timedelta

LARGEST_RATE = 1_000_000
LARGEST_COUNT = 10**15
"""Largest quota of bytes: a petabyte, which the JSON of every language represents exactly."""

LONGEST_GRACE = timedelta(days=90)
"""The longest time that a rotated key still works."""
