"""The logins of administrator and service. Row-level security applies to the service, and no secret is derived.

The login of `DATABASE_URL` prepares the database and could read every row. The service works with one of three others:

- `DATABASE_SERVICE_URL`, if it is set. If its user is the service role, `migrate` gives the role this password.
- The login of `DATABASE_URL` itself, if it has no rights that go around row-level security.
- Otherwise the login of `DATABASE_URL`, which becomes the service role when it connects. RESET ROLE returns to the
  service role, because the role comes with the connection. No password exists that could be computed or stolen.
"""

from dataclasses import dataclass

import psycopg
from psycopg import sql
from sqlalchemy import URL

from service.database.addresses import conninfo
from service.database.libpq import scram_verifier
from service.database.types import SERVICE_ROLE
from service.errors import DatabaseUnavailable, InvalidSettings

_SET_PRIVILEGE_SINCE = 160000
"""PostgreSQL 16 tells membership that may SET ROLE from membership that inherits."""


@dataclass(frozen=True)
class Logins:
    """The two logins of a database: administrator and service."""

    administrator: URL
    service: URL
    service_is_pooled: bool = False
    """Whether a pooler stands before the server, see `is_pooled`."""


def connect(url: URL) -> psycopg.Connection:
    """Open one synchronous connection outside the pool, in autocommit. Raises DatabaseUnavailable."""
    try:
        return psycopg.connect(conninfo(url), autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"cannot connect to {url.host or 'the database'}: {type(error).__name__}") from error


def is_pooled(url: URL) -> bool:
    """Whether a pooler such as PgBouncer stands before the server: it gives a process number that is not the server's.

    Which of its modes it is in cannot be seen from one connection, so the caller expects transaction mode. Poolers
    refuse `options`, so this connection has none.
    """
    with connect(url.difference_update_query(["options"])) as connection:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        return row != (connection.info.backend_pid,)


def service_login(administrator: URL) -> URL:
    """The login of the service on a server of the user, if no login of its own is set."""
    return administrator if _is_unprivileged(administrator) else _becoming_service_role(administrator)


def prepare_service_login(logins: Logins) -> None:
    """Let the service log in, after a migration. Raises InvalidSettings with the statement that a superuser can run.

    A login that works already is not changed.
    """
    administrator, service = logins.administrator, logins.service
    if service == _becoming_service_role(administrator):
        with connect(administrator) as connection:
            _allow_service_role(connection)
    elif service.username == SERVICE_ROLE and isinstance(service.password, str) and not _can_connect(service):
        with connect(administrator) as connection:
            _set_password(connection, service.password)


def _becoming_service_role(administrator: URL) -> URL:
    """The same login, which starts every connection with SET ROLE."""
    options = f"{administrator.query.get('options', '')} -c role={SERVICE_ROLE}".strip()
    return administrator.update_query_dict({"options": options})


def _is_unprivileged(login: URL) -> bool:
    """Whether row-level security already applies to this login."""
    query = "SELECT NOT (rolsuper OR rolbypassrls OR rolcreaterole) FROM pg_roles WHERE rolname = current_user"
    with connect(login) as connection:
        row = connection.execute(query).fetchone()
    return bool(row and row[0])


def _can_connect(login: URL) -> bool:
    try:
        connect(login).close()
    except DatabaseUnavailable:
        return False
    return True


def _allow_service_role(connection: psycopg.Connection) -> None:
    """Make the administrator a member of the service role, unless it may become the role already."""
    knows_set = connection.info.server_version >= _SET_PRIVILEGE_SINCE
    may_become = "SELECT pg_has_role(current_user, %s, %s)"
    if connection.execute(may_become, [SERVICE_ROLE, "SET" if knows_set else "MEMBER"]).fetchone() == (True,):
        return
    options = sql.SQL("WITH INHERIT FALSE, SET TRUE" if knows_set else "")
    grant = sql.SQL("GRANT {} TO CURRENT_USER {}").format(sql.Identifier(SERVICE_ROLE), options)
    try:
        connection.execute(grant)
    except psycopg.errors.InsufficientPrivilege:
        raise InvalidSettings(
            f"the login of DATABASE_URL may not become {SERVICE_ROLE}: run GRANT {SERVICE_ROLE} TO "
            f"{connection.info.user} as a superuser, or give the service a login with DATABASE_SERVICE_URL"
        ) from None


def _set_password(connection: psycopg.Connection, password: str) -> None:
    """Give the service role this password. The server receives the SCRAM verifier, so no log can show the password."""
    verifier = scram_verifier(connection, SERVICE_ROLE, password)
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(SERVICE_ROLE), verifier)
    try:
        connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        raise InvalidSettings(
            f"the login of DATABASE_URL may not set the password of {SERVICE_ROLE}: run ALTER ROLE {SERVICE_ROLE} "
            "PASSWORD '...' as a superuser, with the password of DATABASE_SERVICE_URL"
        ) from None
