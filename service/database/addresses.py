"""Database addresses: parsed by libpq's own parser, and passed on without changing a character.

SQLAlchemy writes a blank in a parameter as `+`, which libpq reads as a plus sign, and it reads a plus sign in a
parameter as a blank. A data folder with a blank in its path, or a certificate in such a folder, was never found.
So no address is ever written as a URL here: programs get libpq's list of `name='value'`.
"""

import re

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import URL

from service.errors import InvalidSettings

_DRIVER = "postgresql+psycopg"
_SCHEME = re.compile(r"\Apostgres(?:ql)?\+\w+://")


def parse_address(text: str) -> URL:
    """The address in the form that SQLAlchemy takes, from a libpq URL or a list of `name=value`.

    Raises InvalidSettings if libpq does not accept it. The error never contains the text, which may hold a password.
    """
    try:
        given = conninfo_to_dict(_SCHEME.sub("postgresql://", text))
    except psycopg.ProgrammingError:
        raise InvalidSettings(
            "DATABASE_URL must have the form postgresql://user:password@host/database?parameter=value; special "
            "characters are written as %20, and the parameters are those of libpq"
        ) from None
    parts = {name: str(value) for name, value in given.items() if value is not None}
    user, password, database = (parts.pop(name, None) for name in ("user", "password", "dbname"))
    host, port = parts.get("host", ""), parts.get("port", "")
    if not host or "," in host or host.startswith(("/", "@")) or not (port.isdecimal() or not port):
        return URL.create(_DRIVER, user, password, database=database, query=parts)  # a socket, or several servers
    del parts["host"]
    parts.pop("port", None)
    return URL.create(_DRIVER, user, password, host, int(port) if port else None, database, query=parts)


def conninfo(address: URL) -> str:
    """The address in libpq's form `name='value' ...`, with the password: for psycopg, psql and pg_dump."""
    parts = address.translate_connect_args(username="user", database="dbname")
    parts |= {name: value if isinstance(value, str) else ",".join(value) for name, value in address.query.items()}
    return make_conninfo(**parts)
