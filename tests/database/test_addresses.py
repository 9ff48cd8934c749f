"""Database addresses: what libpq is told is what the user wrote, whatever characters it has."""

from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine

from service.database.addresses import conninfo, parse_address
from service.database.connection import Database, open_database, open_pool
from service.database.schema.migrate import migrate
from service.database.session import tenant_session
from service.errors import InvalidSettings
from service.gallery.galleries import list_galleries
from service.settings import Settings
from tests.support.folders import OpenFolder

HARD = "a b+c%d&e=f/g?h#i@j:k'l\"m\\nü"


@pytest.mark.parametrize("name", ["user", "password", "dbname", "sslrootcert", "application_name", "passfile"])
def test_every_part_reaches_libpq_with_every_character(name: str) -> None:
    parts = {"host": "db.example", "port": "5433", "dbname": "faces", "user": "u", "password": "p"} | {name: HARD}
    written = psycopg.conninfo.make_conninfo("", **parts)
    assert conninfo_to_dict(conninfo(parse_address(written))) == parts
    engine = create_engine(parse_address(written))
    _, given = engine.dialect.create_connect_args(engine.url)
    assert {key: str(value) for key, value in given.items() if key != "context"} == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("postgresql://a%20b:c%2Bd@h/e+f?sslrootcert=/g+h%20i", ["a b", "c+d", "e+f", "/g+h i"]),
        ("postgres+psycopg://a:b@h:5/c?application_name=x", ["a", "b", "c", "x"]),
        ("host=/run/my\\ folder dbname='two words' user=a", ["/run/my folder", "two words", "a"]),
        ("postgresql://u@one:1,two:2/d?target_session_attrs=primary", ["one,two", "1,2", "primary"]),
    ],
)
def test_urls_mean_what_they_mean_to_libpq(text: str, parts: list[str]) -> None:
    passed = conninfo_to_dict(conninfo(parse_address(text)))
    assert set(parts) <= set(passed.values()), passed


@pytest.mark.parametrize("text", ["nonsense secret", "http://secret@h/d", "postgresql://h/d?secret=1"])
def test_an_address_that_libpq_refuses_is_refused_without_its_text(text: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        parse_address(text)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


async def test_options_of_the_address_are_kept_beside_our_own(database: Database) -> None:
    login = database.logins.service.update_query_dict({"options": "-c work_mem=7MB"})
    engine = open_pool(login, 1)
    try:
        async with engine.connect() as connection:
            shown = [(await connection.exec_driver_sql(f"SHOW {name}")).scalar() for name in ("work_mem", "jit")]
    finally:
        await engine.dispose()
    assert shown == ["7MB", "off"]


@pytest.mark.parametrize("name", ["my data", "a,b", "100% +ünïcode'\"?#&@:="])
async def test_the_application_works_in_any_data_folder(name: str) -> None:
    with OpenFolder() as folder:
        settings = Settings(_env_file=None, data_dir=Path(folder) / name, encoder="fake")
        async with open_database(settings) as opened:
            migrate(opened.logins)
            async with tenant_session(opened.engine, 1) as session:
                assert (await list_galleries(session)).items == []
