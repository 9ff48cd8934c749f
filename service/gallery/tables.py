"""Tables of galleries, people, faces and templates.

`face` is narrow on purpose: search reads it. What is only shown or exported lies in `face_detail`. The primary keys of
`face` (INCLUDE, written in the migration) and `person_template` carry the code: one index both finds and searches.
Sizes for 512 dimensions: halfvec 1,032 bytes, code 72, so seven faces fit a page of 8 KiB. A template is known by its
code, since a number beside it would cost eight bytes in the table and eight in the index.
"""

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    Column,
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
# A name is unique among the people it alone identifies; two people of one name need external ids.
# The gallery is negative (or inverted: the last), so that a statement says by which index it looks somebody up: the
# planner, which knows nothing of names and nothing at all during a load, would now and then take another one with two
# columns in common and read the whole gallery for each.
Index(
    "person_external_id_key",
    person.c.tenant_id,
    -person.c.gallery_id,
    person.c.external_id,
    unique=True,
    postgresql_where=person.c.external_id.is_not(None),
)
Index(
    "person_name_key",
    person.c.tenant_id,
    -person.c.gallery_id,
    person.c.name,
    unique=True,
    postgresql_where=person.c.external_id.is_(None),
)
Index(
    "person_name_index",
    person.c.tenant_id,
    person.c.gallery_id.bitwise_not(),
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
