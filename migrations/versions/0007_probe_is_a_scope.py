"""Embeddings as probes and exact similarities need the scope `probe`. The keys that could have them keep them.

A key made from this revision on has the scope only if it was asked for. Remove it from a key by rotating to a new one.
"""

from alembic import op

from service.database.types import OWNER_ROLE

revision = "0007"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(f"SET LOCAL ROLE {OWNER_ROLE}")
    # Row-level security is forced, and no policy shows the owner a row. The table is locked until the commit.
    op.execute("ALTER TABLE api_key NO FORCE ROW LEVEL SECURITY")
    op.execute(
        """UPDATE api_key SET scopes = array_append(scopes, 'probe')
        WHERE scopes && ARRAY['recognize', 'verify'] AND NOT 'probe' = ANY (scopes)"""
    )
    op.execute("ALTER TABLE api_key FORCE ROW LEVEL SECURITY")
    op.execute("RESET ROLE")
