"""What a command works with: settings, the open and migrated database, and sessions of one tenant.

Most commands need one of three: `open_context` (settings, database and tenant), `open_session` (one session of the
tenant), `open_gallery` (one session and a gallery). Commands commit; nothing below the command line does.
"""

import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from service.cli.exits import ExitCode
from service.cli.options import DEFAULT_TENANT
from service.cli.output import ignore_closed_output, remark

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from service.database.connection import Database
    from service.gallery.galleries import Gallery
    from service.settings import Settings

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def asynchronous(function: Callable[Parameters, Coroutine[Any, Any, Result]]) -> Callable[Parameters, Result]:
    """Wrap a coroutine function as the plain function that typer requires."""

    @functools.wraps(function)
    def run(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        import asyncio

        with ignore_closed_output():
            return asyncio.run(function(*arguments, **named))
        raise typer.Exit(ExitCode.DONE)

    return run


@dataclass(frozen=True)
class CommandContext:
    """The settings, the open database and the tenant of a command."""

    settings: "Settings"
    database: "Database"
    tenant_id: int

    def session(self) -> "AsyncSession":
        """Open a session of the tenant. The command commits."""
        from service.database.session import tenant_session

        return tenant_session(self.database.engine, self.tenant_id)


def read_settings(**changes: object) -> "Settings":
    """Read the settings; `changes` are options of the command line that override them, None if not given.

    Raises InvalidSettings.
    """
    from service.settings_sources import MARKER, ignored_names, load_settings
    from service.telemetry import configure_logging

    if ignored := ignored_names():
        remark(
            f".env belongs to another application and is not read ({', '.join(ignored)}). "
            f"To read it, write a line that starts with {MARKER!r}, or use --env-file .env"
        )
    settings = load_settings(**changes)
    # A short command logs only warnings; `serve` and `work` set the level of the settings again.
    configure_logging("WARNING" if settings.logger_level == "INFO" else settings.logger_level)
    return settings


@contextlib.asynccontextmanager
async def open_migrated(settings: "Settings", *, lingers: bool = True) -> "AsyncIterator[Database]":
    """Open the database, created if it is missing and migrated to the newest schema.

    `lingers`: an embedded server stays up for a while, so that the next command is quick.
    """
    import asyncio

    from service.database.connection import open_database
    from service.database.schema.migrate import migrate

    logging.getLogger("alembic").setLevel(logging.WARNING)
    linger_seconds = settings.embedded_database_linger_seconds if lingers else 0
    async with await asyncio.to_thread(open_database, settings, linger_seconds) as database:
        await asyncio.to_thread(migrate, database.logins)
        yield database


@contextlib.asynccontextmanager
async def open_context(tenant: str, settings: "Settings | None" = None) -> AsyncIterator[CommandContext]:
    """Open the context of a tenant. The tenant `default` is created if it is missing; NotFound for any other."""
    settings = settings or read_settings()
    async with open_migrated(settings) as database:
        yield CommandContext(settings, database, await _tenant_number(settings, database, tenant))


@contextlib.asynccontextmanager
async def open_session(tenant: str) -> "AsyncIterator[AsyncSession]":
    """Open one session of the tenant, for a command that needs nothing else."""
    async with open_context(tenant) as context, context.session() as session:
        yield session


@contextlib.asynccontextmanager
async def open_gallery(tenant: str, name: str) -> "AsyncIterator[tuple[AsyncSession, Gallery]]":
    """Open one session of the tenant and find a gallery. Raises NotFound if it does not exist."""
    from service.gallery.galleries import find_gallery

    async with open_session(tenant) as session:
        yield session, await find_gallery(session, name)


async def _tenant_number(settings: "Settings", database: "Database", name: str) -> int:
    from service.access.operator import operator_transaction
    from service.access.quotas import quotas_of_new_tenants
    from service.access.tenants import find_or_create_tenant, find_tenant

    if name == DEFAULT_TENANT:
        return await find_or_create_tenant(database.engine, name, quotas_of_new_tenants(settings))
    async with operator_transaction(database.engine) as connection:
        return await find_tenant(connection, name)
