"""Translates errors of the drivers into the catalogue, in one place."""

import psycopg
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.errors import DatabaseUnavailable, ServiceError

DRIVER_FAILURES = (psycopg.OperationalError, psycopg.InterfaceError)
"""What psycopg raises if the server cannot be reached or the connection is lost."""
DATABASE_FAILURES = (OperationalError, InterfaceError, PoolTimeout, *DRIVER_FAILURES)
"""The same as SQLAlchemy raises it, and its error for a pool that has no free connection."""


def unavailable(error: BaseException) -> DatabaseUnavailable:
    """The error for a failure of the database. The detail names no host: it is shown to clients."""
    if isinstance(getattr(error, "orig", error), psycopg.errors.DiskFull):
        return DatabaseUnavailable("no space is left on the disk of the database")
    return DatabaseUnavailable("try again in a moment")


def as_service_error(error: BaseException) -> ServiceError | None:
    """The error itself if it is of the catalogue, DatabaseUnavailable for a lost database, else None."""
    if isinstance(error, ServiceError):
        return error
    return unavailable(error) if isinstance(error, DATABASE_FAILURES) else None
