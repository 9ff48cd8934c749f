"""Refuses to create our tables in a database that another application uses.

DATABASE_URL is a common name. In the environment of another application it names that application's database, and any
of our commands would create roles, tables and functions there without this check.
"""

from sqlalchemy import Connection, text

from service.errors import InvalidSettings

_NAMED = 5
"""Largest number of tables that the error names."""

# Tables and views that no extension has created: PostGIS and others put tables of their own into a new database.
_SELECT_TABLES = text("""
    SELECT format('%I.%I', schema.nspname, relation.relname)
    FROM pg_catalog.pg_class AS relation JOIN pg_catalog.pg_namespace AS schema ON schema.oid = relation.relnamespace
    WHERE relation.relkind IN ('r', 'p', 'f', 'v', 'm')
      AND schema.nspname <> 'information_schema' AND schema.nspname !~ '^pg_'
      AND NOT EXISTS (
          SELECT FROM pg_catalog.pg_depend AS dependency
          WHERE dependency.classid = 'pg_catalog.pg_class'::regclass
            AND dependency.objid = relation.oid AND dependency.deptype = 'e'
      )
    ORDER BY 1
""")
_VERSION_TABLE = "public.alembic_version"
_OUR_TABLES = {"public.api_key", "public.gallery", "public.person", "public.person_template", "public.tenant"}
"""Every revision has these. Names of revisions do not tell whose they are: others start with 0001 too."""


def check_database(connection: Connection, *, into_shared_database: bool) -> None:
    """Raise InvalidSettings if the database has tables of another application and not ours.

    With `into_shared_database` foreign tables are accepted, but not another application's alembic_version: Alembic
    would take its revision for one of ours.
    """
    tables = list(connection.scalars(_SELECT_TABLES))
    has_revision = _VERSION_TABLE in tables and bool(
        connection.scalar(text(f"SELECT count(*) FROM {_VERSION_TABLE}"))  # noqa: S608 - constant
    )
    if set(tables) >= _OUR_TABLES:
        return
    if has_revision:
        raise InvalidSettings(
            "DATABASE_URL: the table alembic_version of this database belongs to another application, which uses "
            "Alembic too. Nothing was changed. Name a database of its own for this service"
        )
    foreign = [table for table in tables if table != _VERSION_TABLE]
    if foreign and not into_shared_database:
        more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
        raise InvalidSettings(
            f"DATABASE_URL: the database has tables of another application ({', '.join(foreign[:_NAMED])}{more}). "
            "Nothing was changed. Name an empty database, or run `face-identity migrate --into-shared-database` to "
            "create the tables of this service beside them"
        )
