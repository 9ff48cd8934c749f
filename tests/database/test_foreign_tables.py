"""No command creates tables in a database of another application without being told to."""

import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import URL

from service.database.addresses import conninfo
from service.database.connection import Database
from service.database.logins import Logins, connect
from service.database.schema.migrate import migrate
from service.errors import InvalidSettings
from tests.cli.conftest import Command, bare_command  # noqa: F401 - a fixture


@pytest.fixture
def shared_database(database: Database) -> Iterator[Logins]:
    """A new database with the tables of another application."""
    name = f"shared_{uuid.uuid4().hex[:12]}"

    def renamed(url: URL) -> URL:
        return url.set(database=name)

    logins = Logins(renamed(database.logins.administrator), renamed(database.logins.service))
    with connect(database.logins.administrator) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        run(logins, "CREATE TABLE orders (id int)", "CREATE TABLE customers (id int)")
        yield logins
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def run(logins: Logins, *statements: str) -> None:
    with connect(logins.administrator) as connection:
        for statement in statements:
            connection.execute(statement)


def tables(logins: Logins) -> set[str]:
    with connect(logins.administrator) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {name for (name,) in rows}


def test_a_database_with_foreign_tables_is_refused_and_not_changed(shared_database: Logins) -> None:
    with pytest.raises(InvalidSettings, match=r"public\.customers, public\.orders.*--into-shared-database"):
        migrate(shared_database)
    assert tables(shared_database) == {"customers", "orders"}


def test_only_some_of_many_foreign_tables_are_named(shared_database: Logins) -> None:
    run(shared_database, *[f"CREATE TABLE more_{number} (id int)" for number in range(9)])
    with pytest.raises(InvalidSettings, match=r"public\.more_3 and 6 more"):
        migrate(shared_database)


def test_a_shared_database_is_migrated_on_request_and_then_by_every_command(shared_database: Logins) -> None:
    assert migrate(shared_database, into_shared_database=True).is_current
    assert migrate(shared_database).is_current
    assert {"customers", "orders", "person"} <= tables(shared_database)


def test_a_foreign_revision_is_refused_even_on_request(shared_database: Logins) -> None:
    run(
        shared_database,
        "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
        "INSERT INTO alembic_version VALUES ('0001')",
    )
    with pytest.raises(InvalidSettings, match="belongs to another application"):
        migrate(shared_database, into_shared_database=True)
    assert "person" not in tables(shared_database)


def test_tables_of_an_extension_are_not_foreign(shared_database: Logins) -> None:
    run(
        shared_database,
        "DROP TABLE orders, customers",
        "CREATE EXTENSION vector",
        "CREATE TABLE spatial_reference (id int)",
        "ALTER EXTENSION vector ADD TABLE spatial_reference",  # as PostGIS does with its table
    )
    assert migrate(shared_database).is_current


def test_commands_refuse_and_migrate_has_the_option(
    bare_command: Command,  # noqa: F811 - the imported fixture
    shared_database: Logins,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = conninfo(shared_database.administrator)
    monkeypatch.setenv("DATABASE_URL", url)
    for arguments in (["tenants", "list"], ["migrate"]):
        refused = bare_command(*arguments)
        assert (refused.code, "public.customers" in refused.err) == (7, True)
    assert bare_command("migrate", "--into-shared-database").code == 0
    assert bare_command("tenants", "list").code == 0
