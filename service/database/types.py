"""Roles, the metadata of all tables, and column types of PostgreSQL and pgvector that SQLAlchemy does not have."""

from sqlalchemy import BigInteger, Column, Integer, MetaData
from sqlalchemy.types import UserDefinedType

OWNER_ROLE = "face_identity_owner"
SERVICE_ROLE = "face_identity_service"
OPERATOR_ROLE = "face_identity_operator"

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_index",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(referred_table_name)s_fkey",
        "pk": "%(table_name)s_pkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)


class VariableBits(UserDefinedType[str]):
    """`bit varying`, for codes of any length. Values are texts of 0 and 1."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """The name of the type in PostgreSQL."""
        return "bit varying"


class AnyHalfVector(UserDefinedType[str]):
    """pgvector's `halfvec` without a fixed dimension: one table holds the embeddings of every embedding space."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """The name of the type in PostgreSQL."""
        return "halfvec"


def tenant_key() -> Column[int]:
    """The column `tenant_id`, the first column of every key of tenant data."""
    return Column("tenant_id", Integer, primary_key=True, autoincrement=False)


def identifier(name: str, *, primary_key: bool = True) -> Column[int]:
    """A column for a 63-bit identifier made by `database.identifiers`."""
    return Column(name, BigInteger, primary_key=primary_key, autoincrement=False, nullable=False)
