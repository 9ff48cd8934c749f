"""Tables of tenants, their API keys and rate limits, and of the operator keys."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
)

from service.database.types import identifier, metadata, tenant_key


def _rates() -> tuple[Column[int], ...]:
    """Columns of the rate limits of a tenant or key. Null: no limit."""
    return Column("requests_per_minute", Integer), Column("inferences_per_minute", Integer)


def _moments() -> tuple[Column[object], ...]:
    """Times at which a key was made, expires, was revoked, and was last used (to the minute)."""
    return (
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("expires_at", DateTime(timezone=True)),
        Column("revoked_at", DateTime(timezone=True)),
        Column("last_used_at", DateTime(timezone=True)),
    )


tenant = Table(
    "tenant",
    metadata,
    Column("tenant_id", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False, unique=True),
    *_rates(),
    Column("maximum_galleries", BigInteger),
    Column("maximum_faces_per_gallery", BigInteger),
    Column("maximum_stored_bytes", BigInteger),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

api_key = Table(
    "api_key",
    metadata,
    tenant_key(),
    identifier("id"),
    Column("name", Text, nullable=False),
    Column("hint", Text, nullable=False, comment="First characters of the key, shown in lists."),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the key. The key itself is not stored."),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("galleries", ARRAY(Text), comment="Names of the galleries that the key may use. Null: all."),
    *_rates(),
    *_moments(),
    Column("created_by", BigInteger, comment="The key that made this one. Null: a command made it."),
    UniqueConstraint("tenant_id", "digest"),
    ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"], ondelete="CASCADE"),
)

# Unlogged: after a crash every allowance is full again, and charging a request costs no disk write.
rate_limit = Table(
    "rate_limit",
    metadata,
    tenant_key(),
    identifier("key_id"),
    Column("cost_class", Text, primary_key=True),
    Column("full_at", DateTime(timezone=True), nullable=False, comment="Time at which the allowance is full again."),
    ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"], ondelete="CASCADE"),
    prefixes=["UNLOGGED"],
)

operator_key = Table(
    "operator_key",
    metadata,
    identifier("id"),
    Column("name", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    *_moments(),
)
