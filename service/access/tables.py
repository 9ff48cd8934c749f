"""Tables of tenants and their API keys."""

from sqlalchemy import ARRAY, Column, DateTime, ForeignKeyConstraint, Integer, LargeBinary, Table, Text, func

from service.database.base import identifier, metadata, tenant_key

tenant = Table(
    "tenant",
    metadata,
    Column("tenant_id", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

api_key = Table(
    "api_key",
    metadata,
    tenant_key(),
    identifier("id"),
    Column("name", Text, nullable=False),
    Column("hint", Text, nullable=False, comment="The first characters of the key, to tell keys apart."),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the key; the key itself is not kept."),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("galleries", ARRAY(Text), comment="Names of the only galleries this key may touch; null: all."),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),
    ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"], ondelete="CASCADE"),
)
