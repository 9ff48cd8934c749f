"""The catalog of a migrated database: its tables separate tenants, without help from the programmer.

Each rule is a query that finds violations. For each rule a test makes a table, view or role that violates it.
"""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from service.database.connection import Database
from service.database.schema.security import POLICY as TENANT_POLICY
from service.database.types import OPERATOR_ROLE, OWNER_ROLE, SERVICE_ROLE, metadata

TENANT_TABLES = sorted(table.name for table in metadata.tables.values() if "tenant_id" in table.c)

UNPROTECTED = """
    SELECT c.oid::regclass::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
    WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace
      AND NOT (
        c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (
          SELECT FROM pg_policy p
          WHERE p.polrelid = c.oid AND p.polcmd = '*' AND p.polpermissive
            AND p.polroles = ARRAY[(SELECT oid FROM pg_roles WHERE rolname = :service)]
            AND pg_get_expr(p.polqual, p.polrelid) = :policy AND pg_get_expr(p.polwithcheck, p.polrelid) = :policy
        )
      )
"""
LOOSE_POLICIES = """
    SELECT p.polrelid::regclass::text || ': ' || p.polname FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
    WHERE c.relnamespace = current_schema()::regnamespace
      AND NOT (p.polname = 'tenant' AND pg_get_expr(p.polqual, p.polrelid) = :policy)
"""
KEYS_WITHOUT_TENANT = """
    SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    JOIN pg_attribute t ON t.attrelid = c.oid AND t.attname = 'tenant_id'
    WHERE c.relnamespace = current_schema()::regnamespace AND i.indkey[0] <> t.attnum
  UNION ALL
    SELECT k.conrelid::regclass::text || ': ' || k.conname FROM pg_constraint k
    JOIN pg_attribute t ON t.attrelid = k.conrelid AND t.attname = 'tenant_id'
    LEFT JOIN pg_attribute f ON f.attrelid = k.confrelid AND f.attname = 'tenant_id'
    WHERE k.contype = 'f' AND k.connamespace = current_schema()::regnamespace
      AND (k.conkey[1] <> t.attnum OR k.confkey[1] IS DISTINCT FROM f.attnum)
"""
VIEWS = (
    "SELECT relname::text FROM pg_class WHERE relkind IN ('v', 'm') AND relnamespace = current_schema()::regnamespace"
)
DEFINER_FUNCTIONS = """
    SELECT p.oid::regprocedure::text FROM pg_proc p
    WHERE p.prosecdef AND p.pronamespace = current_schema()::regnamespace AND p.proname NOT LIKE 'procrastinate%'
"""
TABLES_WITHOUT_TENANT = """
    SELECT c.relname::text FROM pg_class c
    WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace
      AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')
"""


@pytest.fixture
async def administrator(database: Database) -> AsyncIterator[AsyncConnection]:
    """A transaction of the administrator, in which a test can violate a rule; it is rolled back."""
    engine = create_async_engine(database.logins.administrator)
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


async def found_by(connection: AsyncConnection, rule: str) -> set[str]:
    """Return the violations of a rule."""
    values = {"service": SERVICE_ROLE, "policy": await stored_policy(connection)}
    return set((await connection.execute(text(rule), values)).scalars())


async def stored_policy(connection: AsyncConnection) -> str:
    """Return the policy as the catalog writes it."""
    await connection.execute(text("CREATE TEMPORARY TABLE IF NOT EXISTS spelled (tenant_id integer)"))
    await connection.execute(text("DROP POLICY IF EXISTS spelled ON pg_temp.spelled"))
    await connection.execute(text(f"CREATE POLICY spelled ON pg_temp.spelled USING ({TENANT_POLICY})"))
    spelled = "SELECT pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polrelid = 'pg_temp.spelled'::regclass"
    return str((await connection.execute(text(spelled))).scalar_one())


async def in_scratch_schema(connection: AsyncConnection, *statements: str) -> None:
    """Make something in a schema of its own, in which the rules are then checked."""
    await connection.execute(text("CREATE SCHEMA scratch"))
    await connection.execute(text("SET LOCAL search_path = scratch, public"))
    for statement in statements:
        await connection.execute(text(statement))


async def test_every_table_of_tenants_is_protected(administrator: AsyncConnection) -> None:
    assert len(TENANT_TABLES) > 9
    assert await found_by(administrator, UNPROTECTED) == set()


async def test_every_table_of_the_code_is_in_the_database(administrator: AsyncConnection) -> None:
    present = await administrator.execute(text("SELECT relname::text FROM pg_class WHERE relkind = 'r'"))
    assert set(metadata.tables) <= set(present.scalars())


@pytest.mark.parametrize(
    "protection",
    [
        [],
        ["ALTER TABLE forgotten ENABLE ROW LEVEL SECURITY", "ALTER TABLE forgotten FORCE ROW LEVEL SECURITY"],
        [
            "ALTER TABLE forgotten ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY tenant ON forgotten TO {SERVICE_ROLE} USING ({TENANT_POLICY}) WITH CHECK ({TENANT_POLICY})",
        ],
        [
            "ALTER TABLE forgotten FORCE ROW LEVEL SECURITY",
            f"CREATE POLICY tenant ON forgotten TO {SERVICE_ROLE} USING ({TENANT_POLICY}) WITH CHECK ({TENANT_POLICY})",
        ],
        [
            "ALTER TABLE forgotten ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE forgotten FORCE ROW LEVEL SECURITY",
            f"CREATE POLICY tenant ON forgotten TO {SERVICE_ROLE} USING (true) WITH CHECK (true)",
        ],
        [
            "ALTER TABLE forgotten ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE forgotten FORCE ROW LEVEL SECURITY",
            f"CREATE POLICY tenant ON forgotten TO {SERVICE_ROLE} USING ({TENANT_POLICY}) WITH CHECK (true)",
        ],
    ],
    ids=["nothing", "no policy", "not forced", "not enabled", "open policy", "open for writing"],
)
async def test_a_new_table_that_is_not_protected_is_found(
    administrator: AsyncConnection, protection: list[str]
) -> None:
    table = "CREATE TABLE forgotten (tenant_id integer, id bigint, PRIMARY KEY (tenant_id, id))"
    await in_scratch_schema(administrator, table, *protection)
    assert await found_by(administrator, UNPROTECTED) == {"forgotten"}


async def test_a_new_table_that_is_protected_passes(administrator: AsyncConnection) -> None:
    await in_scratch_schema(
        administrator,
        "CREATE TABLE remembered (tenant_id integer, id bigint, PRIMARY KEY (tenant_id, id))",
        "ALTER TABLE remembered ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE remembered FORCE ROW LEVEL SECURITY",
        f"CREATE POLICY tenant ON remembered TO {SERVICE_ROLE} USING ({TENANT_POLICY}) WITH CHECK ({TENANT_POLICY})",
    )
    assert await found_by(administrator, UNPROTECTED) == set()


async def test_no_policy_is_wider_than_one_tenant_but_those_of_the_operator(administrator: AsyncConnection) -> None:
    """Permissive policies add up: one loose policy beside the right policy would open the table."""
    loose = {"tenant: operator", "operator_key: operator", "operator_key: presented"}
    assert await found_by(administrator, LOOSE_POLICIES) == loose
    await in_scratch_schema(
        administrator,
        "CREATE TABLE opened (tenant_id integer PRIMARY KEY)",
        f"CREATE POLICY also ON opened TO {SERVICE_ROLE} USING (true)",
    )
    assert await found_by(administrator, LOOSE_POLICIES) == {"opened: also"}


async def test_every_key_of_tenant_data_begins_with_the_tenant(administrator: AsyncConnection) -> None:
    """Only a tenant's name is unique among all tenants: the operator uses it to name tenants."""
    assert await found_by(administrator, KEYS_WITHOUT_TENANT) == {"tenant_name_key"}
    await in_scratch_schema(
        administrator,
        "CREATE TABLE parent (tenant_id integer, id bigint, PRIMARY KEY (id, tenant_id), UNIQUE (id))",
        "CREATE TABLE child (tenant_id integer, id bigint CONSTRAINT outward REFERENCES parent (id))",
    )
    assert await found_by(administrator, KEYS_WITHOUT_TENANT) == {"parent_pkey", "parent_id_key", "child: outward"}


async def test_nothing_runs_with_other_rights_than_the_callers(administrator: AsyncConnection) -> None:
    """A view or a SECURITY DEFINER function would answer with its owner's rights."""
    assert await found_by(administrator, VIEWS) == set()
    assert await found_by(administrator, DEFINER_FUNCTIONS) == set()
    await in_scratch_schema(
        administrator,
        "CREATE VIEW everybody AS SELECT * FROM public.person",
        "CREATE FUNCTION all_people() RETURNS bigint SECURITY DEFINER LANGUAGE sql AS 'SELECT count(*) FROM person'",
    )
    assert await found_by(administrator, VIEWS) == {"everybody"}
    assert await found_by(administrator, DEFINER_FUNCTIONS) == {"all_people()"}


async def test_tables_without_a_tenant_are_known_by_name(administrator: AsyncConnection) -> None:
    """If you add a table, say here why it contains nothing of a tenant (docs/security.md says it of these)."""
    ours = {name for name in await found_by(administrator, TABLES_WITHOUT_TENANT) if "procrastinate" not in name}
    assert ours == {"alembic_version", "operator_key"}


async def test_the_service_logs_in_without_any_way_around_the_policies(database: Database) -> None:
    async with database.engine.connect() as connection:
        row = (
            await connection.execute(
                text(
                    "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolinherit FROM pg_roles "
                    "WHERE rolname = current_user"
                )
            )
        ).one()
        assert tuple(row) == (SERVICE_ROLE, False, False, False, False)
        await connection.execute(text("RESET ROLE"))
        assert await connection.scalar(text("SELECT current_user")) == SERVICE_ROLE


async def test_neither_service_nor_operator_owns_anything(administrator: AsyncConnection) -> None:
    owners = text("SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relname = ANY(:tables)")
    found = await administrator.execute(owners, {"tables": TENANT_TABLES})
    assert set(found.scalars()) == {OWNER_ROLE}


async def test_the_service_may_become_the_operator_and_nobody_else(administrator: AsyncConnection) -> None:
    memberships = text(
        "SELECT m.member::regrole::text, m.roleid::regrole::text FROM pg_auth_members m "
        "WHERE m.member::regrole::text = ANY(:roles)"
    )
    found = await administrator.execute(memberships, {"roles": [SERVICE_ROLE, OPERATOR_ROLE, OWNER_ROLE]})
    assert {tuple(row) for row in found} == {(SERVICE_ROLE, OPERATOR_ROLE)}
    attributes = text("SELECT rolsuper OR rolbypassrls OR rolcanlogin FROM pg_roles WHERE rolname = ANY(:roles)")
    found = await administrator.execute(attributes, {"roles": [OPERATOR_ROLE, OWNER_ROLE]})
    assert list(found.scalars()) == [False, False]


async def test_nobody_but_service_and_operator_has_rights_on_tables(administrator: AsyncConnection) -> None:
    grants = text(
        "SELECT DISTINCT grantee FROM information_schema.role_table_grants "
        "WHERE table_schema = 'public' AND table_name = ANY(:tables)"
    )
    found = await administrator.execute(grants, {"tables": [*TENANT_TABLES, "operator_key"]})
    assert set(found.scalars()) == {OWNER_ROLE, SERVICE_ROLE, OPERATOR_ROLE}
