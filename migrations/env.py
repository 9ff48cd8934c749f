"""Runs migrations as the administrator, on the connection given by `service.database.schema.migrate` or by Settings."""

from alembic import context
from sqlalchemy import Connection, create_engine

import service.access.tables
import service.gallery.tables
import service.jobs.tables  # noqa: F401 - importing these modules registers their tables
from service.database.types import metadata


def is_ours(name: str | None, kind: str, _: object) -> bool:
    """Whether Alembic compares the table. The tables of the queue are defined by procrastinate."""
    return not (kind == "table" and name is not None and name.startswith("procrastinate_"))


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, include_name=is_ours, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


connection = context.config.attributes.get("connection")
if connection is not None:
    run(connection)
else:
    from service.database.connection import open_database
    from service.settings_sources import load_settings

    database = open_database(load_settings())
    with create_engine(database.logins.administrator).connect() as own:
        run(own)
        own.commit()
