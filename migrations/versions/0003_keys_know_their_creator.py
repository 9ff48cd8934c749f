"""Keys know the key that made them: its rate limits count for them too, and revoking it revokes them."""

import sqlalchemy as sa
from alembic import op

from service.database.schema.security import create_function
from service.database.types import OWNER_ROLE

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(f"SET LOCAL ROLE {OWNER_ROLE}")
    op.add_column(
        "api_key",
        sa.Column("created_by", sa.BigInteger, comment="The key that made this one. Null: a command made it."),
    )
    create_function("charge_v2", "integer, bigint, text, integer")
    create_function("admit_v2", "integer, bytea, text, integer")
    op.execute("RESET ROLE")
