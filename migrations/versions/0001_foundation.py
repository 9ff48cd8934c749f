"""The foundation: extension, roles, tenants, keys, galleries, people, faces, jobs; row-level security on all.

Frozen with release 0.1.0: a test holds the digest of this file. Later changes are revisions of their own.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from service.database.schema.security import (
    ALL_RIGHTS,
    belongs_to,
    covering_primary_key,
    create_function,
    create_queue,
    create_roles,
    force_row_security,
    keep_out_of_statistics,
    open_to_operator,
    packed_primary_key,
    secure,
    store_codes_plain,
)
from service.database.types import OWNER_ROLE, SERVICE_ROLE, AnyHalfVector, VariableBits

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TENANT_TABLES = [
    "tenant",
    "api_key",
    "rate_limit",
    "gallery",
    "person",
    "face",
    "face_detail",
    "person_template",
    "gallery_size",
    "job",
    "job_input",
]
RIGHTS = {"tenant": "SELECT", "api_key": "SELECT, INSERT, UPDATE"}
"""Rights of the service role, for tables where it has less than all."""

FUNCTIONS = {
    "spend_v1": "integer, bigint, text, integer, integer",
    "charge_v1": "integer, bigint, text, integer",
    "admit_v1": "integer, bytea, text, integer",
    "admit_operator_v1": "bytea",
    "stored_bytes_v1": "integer",
    "exceeded_quota_v1": "integer, boolean, integer[], integer",
}
"""Name and argument types; the texts lie in service/database/schema/functions."""


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    create_roles()
    op.execute(f"SET LOCAL ROLE {OWNER_ROLE}")
    create_access()
    create_gallery()
    create_jobs()
    for table in TENANT_TABLES:
        secure(table, RIGHTS.get(table, ALL_RIGHTS))
    secure_operator()
    for name, arguments in FUNCTIONS.items():
        create_function(name, arguments)
    allow_vacuum()
    keep_personal_data_out_of_statistics()
    create_queue("procrastinate_3_10.sql")
    op.execute("RESET ROLE")


def secure_operator() -> None:
    """The operator reads tenants and operator keys. The service reads only the operator key whose digest it has set."""
    for table in ("tenant", "operator_key"):
        open_to_operator(table)
    force_row_security("operator_key")
    presented = "digest = decode(NULLIF(current_setting('app.operator_digest', true), ''), 'hex')"
    op.execute(f"CREATE POLICY presented ON operator_key TO {SERVICE_ROLE} USING ({presented})")
    op.execute(f"GRANT SELECT, UPDATE (last_used_at) ON operator_key TO {SERVICE_ROLE}")


def key(name: str, kind: type[sa.types.TypeEngine[int]] = sa.BigInteger) -> sa.Column[int]:
    return sa.Column(name, kind, nullable=False, autoincrement=False)


def created_at() -> sa.Column[object]:
    return sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())


def create_access() -> None:
    op.create_table(
        "tenant",
        key("tenant_id", sa.Integer),
        sa.Column("name", sa.Text, nullable=False),
        *rates(),
        sa.Column("maximum_galleries", sa.BigInteger),
        sa.Column("maximum_faces_per_gallery", sa.BigInteger),
        sa.Column("maximum_stored_bytes", sa.BigInteger),
        created_at(),
        sa.PrimaryKeyConstraint("tenant_id", name="tenant_pkey"),
        sa.UniqueConstraint("name", name="tenant_name_key"),
    )
    op.create_table(
        "api_key",
        key("tenant_id", sa.Integer),
        key("id"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("hint", sa.Text, nullable=False, comment="First characters of the key, shown in lists."),
        sa.Column(
            "digest", sa.LargeBinary, nullable=False, comment="SHA-256 of the key. The key itself is not stored."
        ),
        sa.Column("scopes", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column(
            "galleries",
            postgresql.ARRAY(sa.Text),
            comment="Names of the galleries that the key may use. Null: all.",
        ),
        *rates(),
        *key_moments(),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="api_key_pkey"),
        sa.UniqueConstraint("tenant_id", "digest", name="api_key_tenant_id_digest_key"),
        belongs_to("api_key", "tenant", ["tenant_id"], ["tenant_id"]),
    )
    op.create_table(
        "rate_limit",
        key("tenant_id", sa.Integer),
        key("key_id"),
        sa.Column("cost_class", sa.Text, nullable=False),
        sa.Column(
            "full_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Time at which the allowance is full again.",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "key_id", "cost_class", name="rate_limit_pkey"),
        belongs_to("rate_limit", "tenant", ["tenant_id"], ["tenant_id"]),
        prefixes=["UNLOGGED"],
    )
    # Every request updates one row. Free space in its page keeps the update heap-only: it writes no index entry.
    op.execute("ALTER TABLE rate_limit SET (fillfactor = 50)")
    op.create_table(
        "operator_key",
        key("id"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("hint", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        *key_moments(),
        sa.PrimaryKeyConstraint("id", name="operator_key_pkey"),
        sa.UniqueConstraint("digest", name="operator_key_digest_key"),
    )


def rates() -> list[sa.Column[int]]:
    return [sa.Column("requests_per_minute", sa.Integer), sa.Column("inferences_per_minute", sa.Integer)]


def key_moments() -> list[sa.Column[object]]:
    ends = [sa.Column(name, sa.DateTime(timezone=True)) for name in ("expires_at", "revoked_at", "last_used_at")]
    return [created_at(), *ends]


def create_gallery() -> None:
    op.create_table(
        "gallery",
        key("tenant_id", sa.Integer),
        sa.Column("id", sa.Integer, sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column(
            "embedding_space",
            sa.Text,
            nullable=False,
            comment="Name of the encoder, or external:LABEL:DIMENSION.",
        ),
        sa.Column("embedding_space_digest", sa.Text, nullable=False),
        sa.Column("dimension", sa.Integer, nullable=False),
        sa.Column("metric", sa.Text, nullable=False, comment="cosine | euclidean"),
        sa.Column("default_threshold", sa.REAL, nullable=False, comment="Default threshold of the embedding space."),
        sa.Column("threshold", sa.REAL, comment="Threshold of this gallery. Null: the default of the space."),
        sa.Column(
            "verification_only",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("false"),
            comment="True: identification (1:N) is refused in this gallery.",
        ),
        created_at(),
        sa.Column(
            "expires_at",
            sa.DateTime(timezone=True),
            comment="Expiry of a gallery made for an uploaded dataset, else null.",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="gallery_pkey"),
        sa.UniqueConstraint("tenant_id", "name", name="gallery_tenant_id_name_key"),
        belongs_to("gallery", "tenant", ["tenant_id"], ["tenant_id"]),
    )
    create_person()
    create_face()


def create_person() -> None:
    op.create_table(
        "person",
        key("tenant_id", sa.Integer),
        key("gallery_id", sa.Integer),
        key("id"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("external_id", sa.Text),
        sa.Column("metadata", postgresql.JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
        created_at(),
        belongs_to("person", "gallery", ["tenant_id", "gallery_id"], ["tenant_id", "id"]),
    )
    packed_primary_key("person", ["tenant_id", "gallery_id", "id"])
    # The gallery stands in three spellings (gallery_id, -gallery_id, ~gallery_id), so that each statement names the one
    # index that can answer it: docs/decisions/0015-indexes-that-a-statement-names.md.
    gallery, inverted = sa.text("(- gallery_id)"), sa.text("(~ gallery_id)")
    with_id, without_id = sa.text("external_id IS NOT NULL"), sa.text("external_id IS NULL")
    names, ids = ["tenant_id", gallery, "name"], ["tenant_id", gallery, "external_id"]
    op.create_index("person_external_id_key", "person", ids, unique=True, postgresql_where=with_id)
    op.create_index("person_name_key", "person", names, unique=True, postgresql_where=without_id)
    op.create_index("person_name_index", "person", ["tenant_id", inverted, "name"], postgresql_where=with_id)


def create_face() -> None:
    people = ["tenant_id", "gallery_id", "person_id"]
    op.create_table(
        "face",
        key("tenant_id", sa.Integer),
        key("gallery_id", sa.Integer),
        key("person_id"),
        key("id"),
        sa.Column(
            "code",
            VariableBits(),
            comment="Sides of hyperplanes on which the embedding lies, see codes.py.",
        ),
        sa.Column("embedding", AnyHalfVector(), nullable=False, comment="Unit length if the metric is cosine."),
        belongs_to("face", "person", people, ["tenant_id", "gallery_id", "id"]),
    )
    covering_primary_key("face", [*people, "id"])
    # The vector stays in the row if it fits a page. A scan that reads the TOAST table is ten times slower.
    op.execute("ALTER TABLE face ALTER COLUMN embedding SET STORAGE MAIN")
    op.execute("ALTER TABLE face SET (toast_tuple_target = 8160)")
    op.create_index(
        "face_inline_index",
        "face",
        people,
        postgresql_include=["id", "embedding"],
        postgresql_where=sa.text("code IS NULL"),
    )
    op.create_table(
        "face_detail",
        key("tenant_id", sa.Integer),
        key("gallery_id", sa.Integer),
        key("person_id"),
        key("face_id"),
        sa.Column(
            "original", sa.LargeBinary, nullable=False, comment="Exact values of the embedding, see exact_values.py."
        ),
        sa.Column("source", postgresql.JSONB, comment="Source of the image, given by the caller."),
        sa.Column(
            "detection",
            postgresql.JSONB,
            comment="Box, score, quality and landmarks. Null: the caller sent an embedding.",
        ),
        belongs_to("face_detail", "face", [*people, "face_id"], [*people, "id"], onupdate="CASCADE"),
    )
    packed_primary_key("face_detail", [*people, "face_id"])
    op.execute("ALTER TABLE face_detail ALTER COLUMN original SET STORAGE EXTERNAL")
    op.create_table(
        "person_template",
        key("tenant_id", sa.Integer),
        key("gallery_id", sa.Integer),
        key("person_id"),
        sa.Column(
            "code",
            VariableBits(),
            nullable=False,
            comment="Sides of hyperplanes on which a mean of references lies.",
        ),
        belongs_to("person_template", "person", people, ["tenant_id", "gallery_id", "id"]),
    )
    store_codes_plain("person_template")
    packed_primary_key("person_template", [*people, "code"])
    create_sizes()


def create_sizes() -> None:
    """Counters of a gallery. A gallery has several rows, so that writers do not wait for each other."""
    op.create_table(
        "gallery_size",
        key("tenant_id", sa.Integer),
        key("gallery_id", sa.Integer),
        key("slot"),
        sa.Column("people", sa.BigInteger, nullable=False),
        sa.Column("faces", sa.BigInteger, nullable=False),
        sa.Column("templates", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False, comment="Bytes of exact values, names and JSON."),
        sa.PrimaryKeyConstraint("tenant_id", "gallery_id", "slot", name="gallery_size_pkey"),
        belongs_to("gallery_size", "gallery", ["tenant_id", "gallery_id"], ["tenant_id", "id"]),
    )


def allow_vacuum() -> None:
    """Let the service vacuum the searched tables after an import, so that searches are index-only scans.

    PostgreSQL 17 and newer can grant that (MAINTAIN). Older versions rely on autovacuum, which is made eager here.
    """
    searched = ["person", "face", "face_detail", "person_template"]
    op.execute(
        f"""DO $$ BEGIN
            IF current_setting('server_version_num')::integer >= 170000 THEN
                GRANT MAINTAIN ON {", ".join(searched)} TO {SERVICE_ROLE};
            END IF;
        END $$"""
    )
    for table in ("face", "person_template"):
        op.execute(
            f"""ALTER TABLE {table} SET (
                autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_scale_factor = 0.02,
                autovacuum_analyze_scale_factor = 0.05
            )"""
        )


def keep_personal_data_out_of_statistics() -> None:
    columns = {
        "person": ["name", "external_id", "metadata"],
        "face": ["code", "embedding"],
        "face_detail": ["original", "source", "detection"],
        "person_template": ["code"],
    }
    for table, names in columns.items():
        keep_out_of_statistics(table, names)


def create_jobs() -> None:
    op.create_table(
        "job",
        key("tenant_id", sa.Integer),
        key("id"),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("arguments", postgresql.JSONB, nullable=False),
        sa.Column("status", sa.Text, nullable=False, server_default=sa.text("'queued'")),
        sa.Column("done", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("total", sa.BigInteger),
        sa.Column(
            "attempts",
            sa.Integer,
            nullable=False,
            server_default=sa.text("0"),
            comment="Number of attempts by a worker.",
        ),
        sa.Column("result", postgresql.JSONB),
        sa.Column("error", postgresql.JSONB),
        created_at(),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="job_pkey"),
        belongs_to("job", "tenant", ["tenant_id"], ["tenant_id"]),
    )
    op.create_table(
        "job_input",
        key("tenant_id", sa.Integer),
        key("job_id"),
        key("position", sa.Integer),
        sa.Column(
            "content",
            sa.LargeBinary,
            nullable=False,
            comment="One piece of the uploaded file, at most one mebibyte.",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "job_id", "position", name="job_input_pkey"),
        belongs_to("job_input", "job", ["tenant_id", "job_id"], ["tenant_id", "id"]),
    )
    # A piece is read once and deleted. Compression would cost more than it saves.
    op.execute("ALTER TABLE job_input ALTER COLUMN content SET STORAGE EXTERNAL")


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only; restore a backup to go back")
