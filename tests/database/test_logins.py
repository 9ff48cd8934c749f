"""The logins of a server that asks everybody but the administrator for a password, as with peer or certificates."""

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import URL, create_engine, text

from service.database.addresses import parse_address
from service.database.connection import open_database
from service.database.embedded.server import EmbeddedServer, start_embedded_server
from service.database.logins import connect
from service.database.schema.migrate import configuration, migrate
from service.database.types import SERVICE_ROLE
from service.errors import DatabaseUnavailable, InvalidSettings
from service.settings import Settings
from tests.support.folders import opened

RULES = "local all postgres,clerk trust\nlocal all all scram-sha-256\n"
"""Only the administrators log in without a password."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server with a database `faces`, which every test finds empty of roles with passwords."""
    folder = opened(tmp_path_factory.mktemp("strict")) / "postgres"
    with start_embedded_server(folder) as server:
        (folder / "data" / "pg_hba.conf").write_text(RULES)
        with connect(parse_address(server.url)) as connection:
            connection.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture
def administrator(server: EmbeddedServer, request: pytest.FixtureRequest) -> Iterator[URL]:
    """A superuser's login of a new database. The roles of the server are made by its first migration."""
    name = f"faces_{abs(hash(request.node.name)) % 10**9}"
    maintenance = parse_address(server.url)
    with connect(maintenance) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield maintenance.set(database=name)
    with connect(maintenance) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def settings_of(administrator: URL, service: str | None = None) -> Settings:
    socket = administrator.query["host"]
    database_url = f"dbname={administrator.database} user={administrator.username} host='{socket}'"
    return Settings(database_url=database_url, database_service_url=service)


def upgrade_to(administrator: URL, revision: str) -> None:
    engine = create_engine(administrator)
    with engine.begin() as connection:
        alembic = configuration()
        alembic.attributes["connection"] = connection
        command.upgrade(alembic, revision)
        connection.execute(text(f"GRANT SELECT ON alembic_version TO {SERVICE_ROLE}"))
    engine.dispose()


def stored_password(administrator: URL) -> str | None:
    """What the server has stored of the service role's password."""
    with connect(administrator) as connection:
        row = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [SERVICE_ROLE]).fetchone()
    assert row is not None
    return None if row[0] is None else str(row[0])


def server_log(administrator: URL) -> str:
    with connect(administrator) as connection:
        row = connection.execute("SELECT current_setting('data_directory')").fetchone()
    assert row is not None
    return "".join(path.read_text() for path in Path(row[0]).parent.glob("*.log"))


async def role_of_requests(settings: Settings) -> tuple[str, str]:
    """Migrate, and return the role in which the service works, before and after RESET ROLE."""
    database = open_database(settings)
    try:
        migrate(database.logins)
        async with database.engine.connect() as connection:
            before = str(await connection.scalar(text("SELECT current_user")))
            await connection.execute(text("RESET ROLE"))
            return before, str(await connection.scalar(text("SELECT current_user")))
    finally:
        await database.close()


async def test_without_a_login_of_its_own_the_service_works_in_its_role_and_no_password_exists(
    administrator: URL,
) -> None:
    assert await role_of_requests(settings_of(administrator)) == (SERVICE_ROLE, SERVICE_ROLE)
    assert stored_password(administrator) is None
    derived = hmac.new(b"", b"face identity service role", hashlib.sha256).hexdigest()  # as in release 0.1.0
    with pytest.raises(DatabaseUnavailable):
        connect(administrator.set(username=SERVICE_ROLE, password=derived))


async def test_an_upgrade_removes_the_password_that_release_0_1_0_derived(administrator: URL) -> None:
    upgrade_to(administrator, "0001")
    with connect(administrator) as connection:
        connection.execute(f"ALTER ROLE {SERVICE_ROLE} PASSWORD 'derived'")
    assert await role_of_requests(settings_of(administrator)) == (SERVICE_ROLE, SERVICE_ROLE)
    assert stored_password(administrator) is None


async def test_an_administrator_that_is_no_superuser_becomes_a_member_of_the_service_role(administrator: URL) -> None:
    await role_of_requests(settings_of(administrator))
    clerk = administrator.set(username="clerk")
    with connect(administrator) as connection:
        connection.execute("CREATE ROLE clerk LOGIN CREATEROLE")
        connection.execute("ALTER TABLE alembic_version OWNER TO clerk")
    try:
        with pytest.raises(InvalidSettings, match=f"GRANT {SERVICE_ROLE} TO clerk"):
            await role_of_requests(settings_of(clerk))
        with connect(administrator) as connection:
            connection.execute(f"GRANT {SERVICE_ROLE} TO clerk WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
        assert await role_of_requests(settings_of(clerk)) == (SERVICE_ROLE, SERVICE_ROLE)
    finally:
        with connect(administrator) as connection:
            connection.execute("DROP OWNED BY clerk")
            connection.execute("DROP ROLE clerk")


async def test_a_login_of_its_own_gets_its_password_as_a_verifier(administrator: URL, server: EmbeddedServer) -> None:
    own = f"user={SERVICE_ROLE} password=canary dbname={administrator.database} host='{administrator.query['host']}'"
    with connect(administrator) as connection:
        connection.execute("ALTER SYSTEM SET log_statement = 'all'")
        connection.execute("SELECT pg_reload_conf()")
    assert await role_of_requests(settings_of(administrator, own)) == (SERVICE_ROLE, SERVICE_ROLE)
    stored = stored_password(administrator)
    assert stored is not None
    assert stored.startswith("SCRAM-SHA-256$")
    assert await role_of_requests(settings_of(administrator, own)) == (SERVICE_ROLE, SERVICE_ROLE)
    assert stored_password(administrator) == stored  # a login that works is not changed
    with connect(administrator) as connection:
        connection.execute("ALTER SYSTEM RESET log_statement")
        connection.execute(f"ALTER ROLE {SERVICE_ROLE} PASSWORD NULL")
    log = server_log(administrator)
    assert f'ALTER ROLE "{SERVICE_ROLE}"' in log
    assert "canary" not in log
