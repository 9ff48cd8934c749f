"""The numbers of every advisory lock, in one place so that no two purposes share a number.

PostgreSQL has two separate spaces of advisory locks: one 64-bit number, and a pair of 32-bit numbers. A job is locked
by its own 63-bit number (jobs/jobs.py), which is made by `identifiers` and so is far above MIGRATION_LOCK.
"""

from typing import Final

MIGRATION_LOCK: Final = 4_077_132_026
"""One number: two processes never migrate at the same time."""

LOAD_LOCK: Final = 77_126_341
"""First of a pair, the gallery is the second: two imports of several batches into one gallery run in turn."""

QUOTA_LOCK: Final = 407_713_202
"""First of a pair, the tenant is the second: transactions of a tenant with quotas commit in turn. The function
exceeded_quota_v1 holds the same number."""
