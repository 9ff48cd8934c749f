"""Translates errors of the drivers into the catalogue, in one place."""

import psycopg
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.errors import DatabaseUnavailable, ServiceError, StatementTimedOut

_Idle = psycopg.errors.IdleInTransactionSessionTimeout
DRIVER_FAILURES = (psycopg.OperationalError, psycopg.InterfaceError, _Idle)
"""What psycopg raises if the server cannot be reached or the connection is lost."""
DATABASE_FAILURES = (OperationalError, InterfaceError, PoolTimeout, *DRIVER_FAILURES)
"""The same as SQLAlchemy raises it, and its error for a pool that has no free connection."""


def as_lost_connection(context: ExceptionContext) -> Exception | None:
    """A listener of SQLAlchemy for errors: the server has ended a transaction that did nothing, and the connection.

    psycopg calls it an internal error. So SQLAlchemy would keep the connection, and nobody would try again.
    """
    if not isinstance(error := context.original_exception, _Idle):
        return None
    context.is_disconnect = True
    return OperationalError(context.statement, None, error, hide_parameters=True, connection_invalidated=True)


def unavailable(error: BaseException) -> DatabaseUnavailable:
    """The error for a failure of the database. The detail names no host: it is shown to clients."""
    if isinstance(getattr(error, "orig", error), psycopg.errors.QueryCanceled):
        return StatementTimedOut(
            "a statement was stopped, most likely after DATABASE_STATEMENT_TIMEOUT_SECONDS; ask for less in one "
            "request, or let the operator raise the setting"
        )
    if isinstance(getattr(error, "orig", error), psycopg.errors.DiskFull):
        return DatabaseUnavailable("no space is left on the disk of the database")
    return DatabaseUnavailable("try again in a moment")


def as_service_error(error: BaseException) -> ServiceError | None:
    """The error itself if it is of the catalogue, DatabaseUnavailable for a lost database, else None."""
    if isinstance(error, ServiceError):
        return error
    return unavailable(error) if isinstance(error, DATABASE_FAILURES) else None
