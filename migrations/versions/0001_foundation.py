"""The foundation: extension, roles, tenants, keys, galleries, people, faces, jobs; row-level security on all."""

import sqlalchemy as sa
from alembic import op
from procrastinate.schema import SchemaManager
from sqlalchemy.dialects import postgresql

from service.database.base import OWNER_ROLE, SERVICE_ROLE, AnyHalfVector, VariableBits

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TENANT_TABLES = [
    "tenant",
    "api_key",
    "gallery",
    "person",
    "face",
    "face_detail",
    "person_template",
    "job",
    "job_input",
]
POLICY = "tenant_id = NULLIF(current_setting('app.tenant', true), '')::integer"


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    create_roles()
    op.execute(f"SET LOCAL ROLE {OWNER_ROLE}")
    create_access()
    create_gallery()
    create_jobs()
    for table in TENANT_TABLES:
        secure(table)
    # The operator, as owner, lists and removes tenants; their content stays behind the policy above.
    op.execute(f"CREATE POLICY operator ON tenant TO {OWNER_ROLE} USING (true) WITH CHECK (true)")
    create_queue()
    op.execute("RESET ROLE")


def create_roles() -> None:
    """Roles belong to the whole server, so another database of it may have made them already."""
    for role, attributes in ((OWNER_ROLE, "NOLOGIN"), (SERVICE_ROLE, "LOGIN")):
        op.execute(
            f"""DO $$ BEGIN
                CREATE ROLE {role} {attributes} NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"""
        )
    op.execute(f"GRANT {OWNER_ROLE} TO CURRENT_USER")
    op.execute(f"GRANT USAGE, CREATE ON SCHEMA public TO {OWNER_ROLE}")
    op.execute(f"GRANT USAGE ON SCHEMA public TO {SERVICE_ROLE}")


def secure(table: str) -> None:
    """Row-level security, enabled and forced, and what the service role may do."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {table} TO {SERVICE_ROLE} USING ({POLICY}) WITH CHECK ({POLICY})")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {SERVICE_ROLE}")


def key(name: str, kind: type[sa.types.TypeEngine[int]] = sa.BigInteger) -> sa.Column[int]:
    return sa.Column(name, kind, nullable=False, autoincrement=False)


def created_at() -> sa.Column[object]:
    return sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())


def create_access() -> None:
    op.create_table(
        "tenant",
        key("tenant_id", sa.Integer),
        sa.Column("name", sa.Text, nullable=False),
        created_at(),
        sa.PrimaryKeyConstraint("tenant_id", name="tenant_pkey"),
        sa.UniqueConstraint("name", name="tenant_name_key"),
    )
    op.create_table(
        "api_key",
        key("tenant_id", sa.Integer),
        key("id"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("hint", sa.Text, nullable=False, comment="The first characters of the key, to tell keys apart."),
        sa.Column("digest", sa.LargeBinary, nullable=False, comment="SHA-256 of the key; the key itself is not kept."),
        sa.Column("scopes", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column(
            "galleries",
            postgresql.ARRAY(sa.Text),
            comment="Names of the only galleries this key may touch; null: all.",
        ),
        created_at(),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="api_key_pkey"),
        belongs_to("api_key", "tenant", ["tenant_id"], ["tenant_id"]),
    )


def belongs_to(table: str, parent: str, columns: list[str], parent_columns: list[str]) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        columns, [f"{parent}.{column}" for column in parent_columns], name=f"{table}_{parent}_fkey", ondelete="CASCADE"
    )


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
            comment="The encoder's name or external:LABEL:DIMENSION.",
        ),
        sa.Column("embedding_space_digest", sa.Text, nullable=False),
        sa.Column("dimension", sa.Integer, nullable=False),
        sa.Column("metric", sa.Text, nullable=False, comment="cosine | euclidean"),
        sa.Column("default_threshold", sa.REAL, nullable=False, comment="The embedding space's own."),
        sa.Column("threshold", sa.REAL, comment="This gallery's; null: the embedding space's default."),
        created_at(),
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
        sa.PrimaryKeyConstraint("tenant_id", "gallery_id", "id", name="person_pkey"),
        sa.UniqueConstraint("tenant_id", "gallery_id", "external_id", name="person_tenant_id_gallery_id_external_id_key"),
        belongs_to("person", "gallery", ["tenant_id", "gallery_id"], ["tenant_id", "id"]),
    )
    names = ["tenant_id", "gallery_id", "name"]
    op.create_index("person_name_key", "person", names, unique=True, postgresql_where=sa.text("external_id IS NULL"))
    op.create_index("person_name_index", "person", names)


def create_face() -> None:
    people = ["tenant_id", "gallery_id", "person_id"]
    op.create_table(
        "face",
        key("tenant_id", sa.Integer),
        key("gallery_id", sa.Integer),
        key("person_id"),
        key("id"),
        sa.Column("code", VariableBits(), comment="Sign bits of the embedding; null where they carry nothing."),
        sa.Column("embedding", AnyHalfVector(), nullable=False, comment="Normalized where the metric is cosine."),
        sa.PrimaryKeyConstraint(*people, "id", name="face_pkey"),
        belongs_to("face", "person", people, ["tenant_id", "gallery_id", "id"]),
    )
    # The vector stays in the row where it fits a page: a scan that goes to the TOAST table is ten times slower.
    op.execute("ALTER TABLE face ALTER COLUMN embedding SET STORAGE MAIN")
    op.execute("ALTER TABLE face SET (toast_tuple_target = 8160)")
    op.create_table(
        "face_detail",
        key("tenant_id", sa.Integer),
        key("gallery_id", sa.Integer),
        key("person_id"),
        key("face_id"),
        sa.Column("original", sa.LargeBinary, nullable=False, comment="The embedding as it came; see originals.py."),
        sa.Column("source", postgresql.JSONB, comment="What the caller said of the picture: a name or a number."),
        sa.Column("detection", postgresql.JSONB, comment="Box, score, quality, landmarks; null for an embedding."),
        created_at(),
        sa.PrimaryKeyConstraint(*people, "face_id", name="face_detail_pkey"),
        belongs_to("face_detail", "face", [*people, "face_id"], [*people, "id"]),
    )
    op.execute("ALTER TABLE face_detail ALTER COLUMN original SET STORAGE EXTERNAL")
    op.create_table(
        "person_template",
        key("tenant_id", sa.Integer),
        key("gallery_id", sa.Integer),
        key("person_id"),
        key("number", sa.SmallInteger),
        sa.Column("code", VariableBits(), nullable=False, comment="Sign bits of a mean of the person's references."),
        sa.PrimaryKeyConstraint(*people, "number", name="person_template_pkey"),
        belongs_to("person_template", "person", people, ["tenant_id", "gallery_id", "id"]),
    )
    create_search_indexes()


def create_search_indexes() -> None:
    """Covering indexes: the candidate step of a search reads nothing but one gallery's leaf pages."""
    galleries = ["tenant_id", "gallery_id"]
    op.create_index(
        "face_code_index",
        "face",
        galleries,
        postgresql_include=["code", "person_id", "id"],
        postgresql_where=sa.text("code IS NOT NULL"),
    )
    op.create_index(
        "face_inline_index",
        "face",
        galleries,
        postgresql_include=["embedding", "person_id", "id"],
        postgresql_where=sa.text("code IS NULL"),
    )
    op.create_index(
        "person_template_code_index", "person_template", galleries, postgresql_include=["code", "person_id"]
    )


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
            comment="One piece of the uploaded file, a mebibyte or less.",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "job_id", "position", name="job_input_pkey"),
        belongs_to("job_input", "job", ["tenant_id", "job_id"], ["tenant_id", "id"]),
    )


def create_queue() -> None:
    """procrastinate's own tables; a queued job holds a tenant's and a job's number, nothing else of theirs."""
    op.get_bind().exec_driver_sql(SchemaManager.get_schema().replace("%", "%%"))
    op.execute(
        f"""DO $$ DECLARE found record; BEGIN
            FOR found IN SELECT tablename FROM pg_tables
                WHERE schemaname = 'public' AND tablename LIKE 'procrastinate\\_%' LOOP
                EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO {SERVICE_ROLE}', found.tablename);
            END LOOP;
            FOR found IN SELECT sequencename FROM pg_sequences
                WHERE schemaname = 'public' AND sequencename LIKE 'procrastinate\\_%' LOOP
                EXECUTE format('GRANT USAGE, SELECT ON SEQUENCE %I TO {SERVICE_ROLE}', found.sequencename);
            END LOOP;
        END $$"""
    )


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup to go back.")
