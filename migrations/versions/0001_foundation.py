"""The foundation: extension, roles, tenants, keys, galleries, people, faces, jobs; row-level security on all."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from procrastinate.schema import SchemaManager
from sqlalchemy.dialects import postgresql

from service.database.types import OPERATOR_ROLE, OWNER_ROLE, SERVICE_ROLE, AnyHalfVector, VariableBits

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
"""What the service may do with a table where that is less than everything."""
POLICY = "tenant_id = NULLIF(current_setting('app.tenant', true), '')::integer"

FUNCTIONS = {
    "spend": "integer, bigint, text, integer, integer",
    "charge": "integer, bigint, text, integer",
    "admit": "integer, bytea, text, integer",
    "admit_operator": "bytea",
    "stored_bytes": "integer",
    "exceeded_quota": "integer, boolean, integer[], integer",
}
"""Texts lie in `0001_functions/`. Each runs as its caller, the service role, under the policies."""


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    create_roles()
    op.execute(f"SET LOCAL ROLE {OWNER_ROLE}")
    create_access()
    create_gallery()
    create_jobs()
    for table in TENANT_TABLES:
        secure(table)
    secure_operator()
    create_functions()
    allow_vacuum()
    keep_out_of_statistics()
    create_queue()
    op.execute("RESET ROLE")


def create_roles() -> None:
    """Roles belong to the whole server, so another database of it may have made them already."""
    # The service takes up the operator's role on purpose (SET LOCAL ROLE), never by inheriting it.
    for role, attributes in ((OWNER_ROLE, "NOLOGIN"), (OPERATOR_ROLE, "NOLOGIN"), (SERVICE_ROLE, "LOGIN NOINHERIT")):
        op.execute(
            f"""DO $$ BEGIN
                CREATE ROLE {role} {attributes} NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"""
        )
    op.execute(f"GRANT {OWNER_ROLE}, {OPERATOR_ROLE} TO CURRENT_USER")
    op.execute(f"GRANT {OPERATOR_ROLE} TO {SERVICE_ROLE}")
    op.execute(f"GRANT USAGE, CREATE ON SCHEMA public TO {OWNER_ROLE}")
    op.execute(f"GRANT USAGE ON SCHEMA public TO {SERVICE_ROLE}, {OPERATOR_ROLE}")


def secure(table: str) -> None:
    """Row-level security, enabled and forced, and what the service role may do."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {table} TO {SERVICE_ROLE} USING ({POLICY}) WITH CHECK ({POLICY})")
    rights = RIGHTS.get(table, "SELECT, INSERT, UPDATE, DELETE")
    op.execute(f"GRANT {rights} ON {table} TO {SERVICE_ROLE}")


def secure_operator() -> None:
    """The operator sees tenants and operator's keys; the service sees the one operator's key whose digest it holds."""
    for table in ("tenant", "operator_key"):
        op.execute(f"CREATE POLICY operator ON {table} TO {OPERATOR_ROLE} USING (true) WITH CHECK (true)")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {OPERATOR_ROLE}")
    op.execute("ALTER TABLE operator_key ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE operator_key FORCE ROW LEVEL SECURITY")
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
        sa.Column("hint", sa.Text, nullable=False, comment="The first characters of the key, to tell keys apart."),
        sa.Column("digest", sa.LargeBinary, nullable=False, comment="SHA-256 of the key; the key itself is not kept."),
        sa.Column("scopes", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column(
            "galleries",
            postgresql.ARRAY(sa.Text),
            comment="Names of the only galleries this key may touch; null: all.",
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
            comment="When the whole allowance is there again.",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "key_id", "cost_class", name="rate_limit_pkey"),
        belongs_to("rate_limit", "tenant", ["tenant_id"], ["tenant_id"]),
        prefixes=["UNLOGGED"],
    )
    # Every request rewrites one row: with room in its page that stays a change of one page and of no index.
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


def create_functions() -> None:
    folder = Path(__file__).with_name("0001_functions")
    for name, arguments in FUNCTIONS.items():
        op.get_bind().exec_driver_sql((folder / f"{name}.sql").read_text().replace("%", "%%"))
        op.execute(f"REVOKE EXECUTE ON FUNCTION {name}({arguments}) FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {name}({arguments}) TO {SERVICE_ROLE}")


def belongs_to(
    table: str, parent: str, columns: list[str], parent_columns: list[str], onupdate: str | None = None
) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        columns,
        [f"{parent}.{column}" for column in parent_columns],
        name=f"{table}_{parent}_fkey",
        ondelete="CASCADE",
        onupdate=onupdate,
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
        sa.Column(
            "verification_only",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("false"),
            comment="True: nobody is identified (1:N) in it.",
        ),
        created_at(),
        sa.Column(
            "expires_at",
            sa.DateTime(timezone=True),
            comment="Of a scratch gallery, see scratch.py; else null.",
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
    pack("person", ["tenant_id", "gallery_id", "id"])
    # The gallery in three ways, so that no statement can be answered by one of these and another or the primary key.
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
        sa.Column("code", VariableBits(), comment="Sign bits of the embedding; null where they carry nothing."),
        sa.Column("embedding", AnyHalfVector(), nullable=False, comment="Normalized where the metric is cosine."),
        belongs_to("face", "person", people, ["tenant_id", "gallery_id", "id"]),
    )
    cover("face", [*people, "id"])
    # The vector stays in the row where it fits a page: a scan that goes to the TOAST table is ten times slower.
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
        sa.Column("original", sa.LargeBinary, nullable=False, comment="The embedding as it came; see originals.py."),
        sa.Column("source", postgresql.JSONB, comment="What the caller said of the picture: a name or a number."),
        sa.Column("detection", postgresql.JSONB, comment="Box, score, quality, landmarks; null for an embedding."),
        belongs_to("face_detail", "face", [*people, "face_id"], [*people, "id"], onupdate="CASCADE"),
    )
    pack("face_detail", [*people, "face_id"])
    op.execute("ALTER TABLE face_detail ALTER COLUMN original SET STORAGE EXTERNAL")
    op.create_table(
        "person_template",
        key("tenant_id", sa.Integer),
        key("gallery_id", sa.Integer),
        key("person_id"),
        sa.Column("code", VariableBits(), nullable=False, comment="Sign bits of a mean of the person's references."),
        belongs_to("person_template", "person", people, ["tenant_id", "gallery_id", "id"]),
    )
    plain("person_template")
    pack("person_template", [*people, "code"])
    create_sizes()


def cover(table: str, columns: list[str]) -> None:
    """A primary key whose index carries the code: the candidate step of a search reads nothing else."""
    plain(table)
    pack(table, columns, "INCLUDE (code)")


def plain(table: str) -> None:
    """Stored plain, a code has an aligned four-byte header; the short header would cost a copy for every comparison."""
    op.execute(f"ALTER TABLE {table} ALTER COLUMN code SET STORAGE PLAIN")


def pack(table: str, columns: list[str], include: str = "") -> None:
    """A primary key with filled pages: identifiers grow with time, so an index grows at its end."""
    key = f"PRIMARY KEY ({', '.join(columns)}) {include} WITH (fillfactor = 100)"
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {table}_pkey {key}")


def create_sizes() -> None:
    """How much a gallery holds, counted in the transaction that changes it; several rows so that no writer waits."""
    op.create_table(
        "gallery_size",
        key("tenant_id", sa.Integer),
        key("gallery_id", sa.Integer),
        key("slot"),
        sa.Column("people", sa.BigInteger, nullable=False),
        sa.Column("faces", sa.BigInteger, nullable=False),
        sa.Column("templates", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False, comment="Originals, names and JSON."),
        sa.PrimaryKeyConstraint("tenant_id", "gallery_id", "slot", name="gallery_size_pkey"),
        belongs_to("gallery_size", "gallery", ["tenant_id", "gallery_id"], ["tenant_id", "id"]),
    )


def allow_vacuum() -> None:
    """A search reads the index alone once a load was vacuumed, which the service does where PostgreSQL can let it.

    Before PostgreSQL 17 only the owner may; there the server's autovacuum, made eager here, does it.
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


def keep_out_of_statistics() -> None:
    """ANALYZE copies samples into pg_statistic, where they would outlive what was erased; no plan needs these."""
    columns = {
        "person": ["name", "external_id", "metadata"],
        "face": ["code", "embedding"],
        "face_detail": ["original", "source", "detection"],
        "person_template": ["code"],
    }
    for table, names in columns.items():
        for name in names:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {name} SET STATISTICS 0")


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
            comment="How often a worker began it.",
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
            comment="One piece of the uploaded file, a mebibyte or less.",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "job_id", "position", name="job_input_pkey"),
        belongs_to("job_input", "job", ["tenant_id", "job_id"], ["tenant_id", "id"]),
    )
    # Read once and deleted: trying to compress it would cost more than its short life on the disk.
    op.execute("ALTER TABLE job_input ALTER COLUMN content SET STORAGE EXTERNAL")


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
