"""Security of the schema: what every revision imports to make a table of tenant data, a role or a function.

A revision that adds a table with a tenant calls `secure` (row-level security and grants), `packed_primary_key` or a
primary key of its own that starts with the tenant, `belongs_to` (erasure follows the parent) and
`keep_out_of_statistics` for each column with personal data. The tests in tests/architecture read the catalog of a
migrated database and fail if a table lacks one of these.
"""

from collections.abc import Sequence
from importlib.resources import files

import sqlalchemy as sa
from alembic import op

from service.database.types import OPERATOR_ROLE, OWNER_ROLE, SERVICE_ROLE

POLICY = "tenant_id = NULLIF(current_setting('app.tenant', true), '')::integer"
"""The condition of every policy. PostgreSQL leaves a custom setting as '' after the transaction that set it, not as
NULL; without NULLIF the cast of '' would raise an error instead of showing no rows."""

ALL_RIGHTS = "SELECT, INSERT, UPDATE, DELETE"

# Attributes of roles that nobody may inherit power from.
_UNPRIVILEGED = "NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE"


def create_roles() -> None:
    """Make the roles of owner, service and operator, unless another database of the server has made them already.

    The owner owns the tables and cannot log in. The service logs in and takes the operator's role only by SET ROLE
    (NOINHERIT), so that no statement of the service has the operator's rights by accident.
    """
    for role, attributes in ((OWNER_ROLE, "NOLOGIN"), (OPERATOR_ROLE, "NOLOGIN"), (SERVICE_ROLE, "LOGIN NOINHERIT")):
        op.execute(
            f"""DO $$ BEGIN
                CREATE ROLE {role} {attributes} {_UNPRIVILEGED};
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"""
        )
    op.execute(f"GRANT {OWNER_ROLE}, {OPERATOR_ROLE} TO CURRENT_USER")
    op.execute(f"GRANT {OPERATOR_ROLE} TO {SERVICE_ROLE}")
    op.execute(f"GRANT USAGE, CREATE ON SCHEMA public TO {OWNER_ROLE}")
    op.execute(f"GRANT USAGE ON SCHEMA public TO {SERVICE_ROLE}, {OPERATOR_ROLE}")


def secure(table: str, rights: str = ALL_RIGHTS) -> None:
    """Enable and force row-level security on `table`, add the tenant policy, and grant `rights` to the service."""
    force_row_security(table)
    op.execute(f"CREATE POLICY tenant ON {table} TO {SERVICE_ROLE} USING ({POLICY}) WITH CHECK ({POLICY})")
    op.execute(f"GRANT {rights} ON {table} TO {SERVICE_ROLE}")


def force_row_security(table: str) -> None:
    """Enable row-level security, and force it so that it holds for the owner too."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def open_to_operator(table: str) -> None:
    """Let the operator's role read and write every row of `table`."""
    op.execute(f"CREATE POLICY operator ON {table} TO {OPERATOR_ROLE} USING (true) WITH CHECK (true)")
    op.execute(f"GRANT {ALL_RIGHTS} ON {table} TO {OPERATOR_ROLE}")


def belongs_to(
    table: str, parent: str, columns: Sequence[str], parent_columns: Sequence[str], onupdate: str | None = None
) -> sa.ForeignKeyConstraint:
    """A foreign key whose rows are deleted with the parent row: erasing a tenant, gallery or person leaves nothing."""
    return sa.ForeignKeyConstraint(
        columns,
        [f"{parent}.{column}" for column in parent_columns],
        name=f"{table}_{parent}_fkey",
        ondelete="CASCADE",
        onupdate=onupdate,
    )


def packed_primary_key(table: str, columns: Sequence[str], include: str = "") -> None:
    """Add a primary key with full index pages. Identifiers grow with time, so the index grows at its end only.

    The default fill factor of 90 would leave a tenth of each page empty: a tenth more pages for every scan.
    """
    key = f"PRIMARY KEY ({', '.join(columns)}) {include} WITH (fillfactor = 100)"
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {table}_pkey {key}")


def covering_primary_key(table: str, columns: Sequence[str]) -> None:
    """Add a primary key whose index carries the code: the candidate step of a search is an index-only scan."""
    store_codes_plain(table)
    packed_primary_key(table, columns, "INCLUDE (code)")


def store_codes_plain(table: str) -> None:
    """Store the code with an aligned header of four bytes. The one-byte header would cost a copy per comparison."""
    op.execute(f"ALTER TABLE {table} ALTER COLUMN code SET STORAGE PLAIN")


def keep_out_of_statistics(table: str, columns: Sequence[str]) -> None:
    """Switch off statistics of columns with personal data. No plan needs them.

    ANALYZE copies sample values into pg_statistic, where they would outlive the erased rows.
    """
    for column in columns:
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS 0")


def create_function(name: str, arguments: str) -> None:
    """Make a function from `functions/NAME.sql`, callable by the service role only.

    Each function runs with the rights of its caller, under the policies. Its name ends in a version: a changed text
    gets the next version in a new revision, so that old and new servers run side by side on one database.
    """
    op.get_bind().exec_driver_sql(schema_text(f"functions/{name}.sql").replace("%", "%%"))
    op.execute(f"REVOKE EXECUTE ON FUNCTION {name}({arguments}) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {name}({arguments}) TO {SERVICE_ROLE}")


def create_queue(schema: str) -> None:
    """Make procrastinate's tables from the file `schema`, and grant them to the service.

    They have no tenant and no policy: a queued job holds the numbers of its tenant and its job, and nothing else.
    """
    op.get_bind().exec_driver_sql(schema_text(schema).replace("%", "%%"))
    op.execute(
        f"""DO $$ DECLARE item record; BEGIN
            FOR item IN SELECT tablename FROM pg_tables
                WHERE schemaname = 'public' AND tablename LIKE 'procrastinate\\_%' LOOP
                EXECUTE format('GRANT {ALL_RIGHTS} ON %I TO {SERVICE_ROLE}', item.tablename);
            END LOOP;
            FOR item IN SELECT sequencename FROM pg_sequences
                WHERE schemaname = 'public' AND sequencename LIKE 'procrastinate\\_%' LOOP
                EXECUTE format('GRANT USAGE, SELECT ON SEQUENCE %I TO {SERVICE_ROLE}', item.sequencename);
            END LOOP;
        END $$"""
    )


def schema_text(path: str) -> str:
    """The text of a file beside this module."""
    return files("service.database.schema").joinpath(path).read_text(encoding="utf-8")
