"""Where a command works: settings, the opened and migrated database, and one tenant's sessions.

Commands open it with `async with open_workplace(...)`; transactions of the command line begin and end in commands.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from service.access.operator import operator_transaction
from service.access.quotas import quotas_of_new_tenants
from service.access.tenants import create_tenant, find_tenant
from service.cli.exits import ExitCode
from service.cli.output import quiet_when_unread, remark
from service.database.connection import Database, open_database
from service.database.schema.migrate import migrate
from service.database.session import tenant_session
from service.errors import Conflict, NotFound
from service.settings import MARKER, Settings, ignored_names, load_settings
from service.telemetry import configure_logging

DEFAULT_TENANT = "default"
DEFAULT_GALLERY = "default"

Tenant = Annotated[str, typer.Option("--tenant", "-t", help="Name of the tenant to act for.")]
Gallery = Annotated[str, typer.Option("--gallery", "-g", help="Name of the gallery.")]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def asynchronous(function: Callable[Parameters, Coroutine[Any, Any, Result]]) -> Callable[Parameters, Result]:
    """A command written as a coroutine, as the plain function that typer takes."""

    @functools.wraps(function)
    def run(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        with quiet_when_unread():
            return asyncio.run(function(*arguments, **named))
        raise typer.Exit(ExitCode.DONE)

    return run


@dataclass(frozen=True)
class CommandContext:
    """An open database and the tenant a command acts for."""

    settings: Settings
    database: Database
    tenant_id: int

    def session(self) -> AsyncSession:
        """A session of the tenant; the command commits."""
        return tenant_session(self.database.engine, self.tenant_id)


def read_settings(**changes: object) -> Settings:
    """Return the settings, with the options of the command first (None: not given). Raises InvalidSettings."""
    if ignored := ignored_names():
        remark(
            f".env belongs to another application and is not read ({', '.join(ignored)}). "
            f"To read it, write a line that starts with {MARKER!r}, or use --env-file .env"
        )
    settings = load_settings(**changes)
    # A short command logs no information; serve and work set the level again.
    configure_logging("WARNING" if settings.logger_level == "INFO" else settings.logger_level)
    return settings


@contextlib.asynccontextmanager
async def open_migrated(settings: Settings) -> AsyncIterator[Database]:
    """The database, made when it is new and brought to the newest schema."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    async with await asyncio.to_thread(open_database, settings) as database:
        await asyncio.to_thread(migrate, database.logins)
        yield database


@contextlib.asynccontextmanager
async def open_context(tenant: str, settings: Settings | None = None) -> AsyncIterator[CommandContext]:
    """The tenant's workplace; the tenant `default` is made when missing, any other has to exist."""
    settings = settings or read_settings()
    async with open_migrated(settings) as database:
        yield CommandContext(settings, database, await _tenant_number(settings, database, tenant))


async def _tenant_number(settings: Settings, database: Database, name: str) -> int:
    try:
        async with operator_transaction(database.engine) as connection:
            return await find_tenant(connection, name)
    except NotFound:
        if name != DEFAULT_TENANT:
            raise
    return await make_tenant(settings, database, name)


async def make_tenant(settings: Settings, database: Database, name: str) -> int:
    """The tenant of that name, made now or by another process a moment ago."""
    try:
        async with operator_transaction(database.engine) as connection:
            return await create_tenant(connection, name, quotas_of_new_tenants(settings))
    except Conflict:
        async with operator_transaction(database.engine) as connection:
            return await find_tenant(connection, name)
