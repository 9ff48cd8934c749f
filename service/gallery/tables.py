"""Tables of galleries, people, faces and templates.

`face` is narrow, because searches read it: 1,032 bytes of halfvec and 72 bytes of code at 512 dimensions, seven faces a
page of 8 KiB. Columns that are only shown or exported lie in `face_detail`. The primary keys of `face` (INCLUDE,
written in the revision) and `person_template` carry the code, so that one index both finds rows and serves the
candidate step. The key of a template is its code; a number would cost eight bytes in the table and eight in the index.
"""

from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from service.database.types import AnyHalfVector, VariableBits, identifier, metadata, tenant_key


def _gallery_key() -> Column[int]:
    return Column("gallery_id", Integer, primary_key=True, autoincrement=False)


gallery = Table(
    "gallery",
    metadata,
    tenant_key(),
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("embedding_space", Text, nullable=False, comment="Name of the encoder, or external:LABEL:DIMENSION."),
    Column("embedding_space_digest", Text, nullable=False),
    Column("dimension", Integer, nullable=False),
    Column("metric", Text, nullable=False, comment="cosine | euclidean"),
    Column("default_threshold", REAL, nullable=False, comment="Default threshold of the embedding space."),
    Column("threshold", REAL, comment="Threshold of this gallery. Null: the default of the space."),
    Column(
        "verification_only",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="True: identification (1:N) is refused in this gallery.",
    ),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column(
        "expires_at", DateTime(timezone=True), comment="Expiry of a gallery made for an uploaded dataset, else null."
    ),
    UniqueConstraint("tenant_id", "name"),
    ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"], ondelete="CASCADE"),
)

person = Table(
    "person",
    metadata,
    tenant_key(),
    _gallery_key(),
    identifier("id"),
    Column("name", Text, nullable=False),
    Column("external_id", Text),
    Column("metadata", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    ForeignKeyConstraint(["tenant_id", "gallery_id"], ["gallery.tenant_id", "gallery.id"], ondelete="CASCADE"),
)


def by_name_index(gallery_id: ColumnElement[int] | int) -> Any:
    """The gallery in the spelling of the unique indexes of names and external ids."""
    return -gallery_id


def by_shared_name_index(gallery_id: ColumnElement[int] | int) -> Any:
    """The gallery in the spelling of the index of names that several people may share."""
    return ~gallery_id if isinstance(gallery_id, int) else gallery_id.bitwise_not()


# A name is unique among people without external id. Two people of one name need external ids. The indexes hold
# -gallery_id or ~gallery_id instead of gallery_id, so that each statement names the one index that can serve it
# (docs/decisions/0015-indexes-that-a-statement-names.md). With gallery_id in all of them, the planner, which has no
# statistics of names, sometimes took another index with two leading columns in common and read the whole gallery for
# each lookup.
Index(
    "person_external_id_key",
    person.c.tenant_id,
    by_name_index(person.c.gallery_id),
    person.c.external_id,
    unique=True,
    postgresql_where=person.c.external_id.is_not(None),
)
Index(
    "person_name_key",
    person.c.tenant_id,
    by_name_index(person.c.gallery_id),
    person.c.name,
    unique=True,
    postgresql_where=person.c.external_id.is_(None),
)
Index(
    "person_name_index",
    person.c.tenant_id,
    by_shared_name_index(person.c.gallery_id),
    person.c.name,
    postgresql_where=person.c.external_id.is_not(None),
)

_PERSON = ["person.tenant_id", "person.gallery_id", "person.id"]

face = Table(
    "face",
    metadata,
    tenant_key(),
    _gallery_key(),
    identifier("person_id"),
    identifier("id"),
    Column("code", VariableBits(), comment="Sides of hyperplanes on which the embedding lies, see codes.py."),
    Column("embedding", AnyHalfVector(), nullable=False, comment="Unit length if the metric is cosine."),
    ForeignKeyConstraint(["tenant_id", "gallery_id", "person_id"], _PERSON, ondelete="CASCADE"),
)
Index(
    "face_inline_index",
    face.c.tenant_id,
    face.c.gallery_id,
    face.c.person_id,
    postgresql_include=["id", "embedding"],
    postgresql_where=face.c.code.is_(None),
)

face_detail = Table(
    "face_detail",
    metadata,
    tenant_key(),
    _gallery_key(),
    identifier("person_id"),
    identifier("face_id"),
    Column("original", LargeBinary, nullable=False, comment="Exact values of the embedding, see exact_values.py."),
    Column("source", JSONB, comment="Source of the image, given by the caller."),
    Column("detection", JSONB, comment="Box, score, quality and landmarks. Null: the caller sent an embedding."),
    ForeignKeyConstraint(
        ["tenant_id", "gallery_id", "person_id", "face_id"],
        ["face.tenant_id", "face.gallery_id", "face.person_id", "face.id"],
        ondelete="CASCADE",
        onupdate="CASCADE",
    ),
)

person_template = Table(
    "person_template",
    metadata,
    tenant_key(),
    _gallery_key(),
    identifier("person_id"),
    Column(
        "code", VariableBits(), primary_key=True, comment="Sides of hyperplanes on which a mean of references lies."
    ),
    ForeignKeyConstraint(["tenant_id", "gallery_id", "person_id"], _PERSON, ondelete="CASCADE"),
)

gallery_size = Table(
    "gallery_size",
    metadata,
    tenant_key(),
    _gallery_key(),
    identifier("slot"),
    Column("people", BigInteger, nullable=False),
    Column("faces", BigInteger, nullable=False),
    Column("templates", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False, comment="Bytes of exact values, names and JSON."),
    ForeignKeyConstraint(["tenant_id", "gallery_id"], ["gallery.tenant_id", "gallery.id"], ondelete="CASCADE"),
)
