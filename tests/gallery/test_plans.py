"""Every search plan has one query plan: fresh, prepared, used often, before and after vacuum, among 10,000 galleries.

The tests hold the shape: which index is read, in what order, with the whole key. Times belong to the benchmarks.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import AsyncClientCursor
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from service.database.connection import Database, open_pool
from service.database.logins import Logins, connect
from service.database.schema.migrate import migrate
from service.database.session import PLANNING, driver_of, tenant_session
from service.database.statements import fetch_rows_in_transaction
from service.gallery.bulk_writing import SELECT_PEOPLE_BY_KEY, ReferenceRow, add_references, finish_load
from service.gallery.galleries import create_gallery, find_gallery
from service.gallery.people import list_people
from service.gallery.search.plans import SearchPath
from service.gallery.search.statements import StatementShape, statement, statement_of_one_person
from tests.conftest import new_tenant
from tests.support.galleries import crowd_of, load, space_of

GALLERIES = 10_000
FORMS = {
    "all": StatementShape(SearchPath.ALL),
    "all, inline": StatementShape(SearchPath.ALL, is_coded=False, is_bounded=True),
    "all, euclidean": StatementShape(SearchPath.ALL, metric="euclidean", is_coded=False),
    "faces": StatementShape(SearchPath.FACES),
    "faces, bounded": StatementShape(SearchPath.FACES, is_bounded=True),
    "people": StatementShape(SearchPath.PEOPLE),
    "people, bounded": StatementShape(SearchPath.PEOPLE, is_bounded=True),
    "people, prefiltered": StatementShape(SearchPath.PEOPLE, is_bounded=True, is_prefiltered=True),
    "people, single references": StatementShape(SearchPath.PEOPLE, is_bounded=True, is_single_reference=True),
    "people, filtered": StatementShape(SearchPath.PEOPLE, is_bounded=True, is_filtered=True),
    "people, mean": StatementShape(SearchPath.PEOPLE, is_bounded=True, is_mean=True),
    "chosen": StatementShape(SearchPath.CHOSEN, is_filtered=True),
}
QUERIES = {name: statement(form) for name, form in FORMS.items()}
QUERIES |= {
    f"{name}, many probes": statement(replace(form, has_many_probes=True))
    for name, form in FORMS.items()
    if not form.is_filtered and not form.is_mean
}
QUERIES["one person"] = statement_of_one_person("cosine")


KINDS = {
    *("Aggregate", "Function Scan", "Incremental Sort", "Index Only Scan", "Index Scan", "Limit", "Memoize"),
    *("Nested Loop", "Result", "Sort", "Subquery Scan", "Unique"),
}
"""No sequential or bitmap scan, no hash or merge join, nothing parallel."""


@pytest.fixture(scope="module")
def own_database(database: Database) -> Iterator[Logins]:
    """A database whose tables no other test fills or analyzes, without autovacuum."""
    name = f"plans_{uuid.uuid4().hex[:12]}"
    with connect(database.logins.administrator) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    logins = Logins(database.logins.administrator.set(database=name), database.logins.service.set(database=name))
    migrate(logins)
    with connect(logins.administrator) as connection:
        for table in ("face", "person", "person_template"):
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    yield logins
    with connect(database.logins.administrator) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@dataclass(frozen=True)
class Loaded:
    """A gallery in a database of its own."""

    engine: AsyncEngine
    tenant_id: int
    gallery_id: int


@pytest.fixture(scope="module")
async def loaded(own_database: Logins) -> AsyncIterator[Loaded]:
    """One gallery of 1,000 people, just loaded: without statistics, and without vacuum."""
    engine = open_pool(own_database.service, 2)
    tenant_id = await new_tenant(Database(own_database, engine, None))
    async with tenant_session(engine, tenant_id) as session:
        gallery = await create_gallery(session, "crowd", space_of())
        await load(session, gallery, crowd_of(1000, 3).rows())
        await session.commit()
    yield Loaded(engine, tenant_id, gallery.id)
    await engine.dispose()


@pytest.fixture
async def at_hand(loaded: Loaded) -> AsyncIterator[AsyncSession]:
    async with tenant_session(loaded.engine, loaded.tenant_id) as session:
        yield session


def values_for(name: str, loaded: Loaded) -> dict[str, Any]:
    """Return the parameters as text, so that they can also be written into the statement itself."""
    vector = "[" + ",".join(map(str, np.linspace(-1, 1, 512))) + "]"
    code, face_code = "01" * 512, "01" * 256
    is_many = "many" in name
    return {
        "tenant": loaded.tenant_id,
        "gallery": loaded.gallery_id,
        "vectors": [vector] * 3 if is_many else vector,
        "codes": [code] * 3 if is_many else code,
        "face_codes": [face_code] * 3 if is_many else face_code,
        "limit": 5,
        "rerank_limit": 60,
        "max_distance": 480.0,
        "max_distance_single_reference": 470.0,
        "face_prefilter": 300.0,
        "metadata": '{"tags": ["vip"]}',
        "mean_of": 3,
        "person": 1,
    }


@dataclass(frozen=True)
class Node:
    """The table, the index and the index condition of a node of a plan."""

    kind: str
    relation: str
    index: str
    condition: str


def nodes(plan: dict[str, Any]) -> list[Node]:
    found = [
        Node(plan["Node Type"], plan.get("Relation Name", ""), plan.get("Index Name", ""), plan.get("Index Cond", ""))
    ]
    return found + [node for child in plan.get("Plans", []) for node in nodes(child)]


def check_shape(name: str, plan: dict[str, Any]) -> None:
    """The plan reads one gallery by index; `face` is read whole only if every face must be compared."""
    found = nodes(plan)
    assert {node.kind for node in found} <= KINDS, name
    for node in found:
        if node.relation:
            assert "tenant_id = " in node.condition, (name, node)
            assert "gallery_id = " in node.condition, (name, node)
    scanned = [
        node
        for node in found
        if node.relation and "person_id = " not in node.condition and "(id = " not in node.condition
    ]
    expected = {
        "all": [("Index Scan", "face_pkey")],
        "all, inline": [("Index Only Scan", "face_inline_index")],
        "all, euclidean": [("Index Only Scan", "face_inline_index")],
        "faces": [("Index Only Scan", "face_pkey")],
        "people": [("Index Only Scan", "person_template_pkey")],
        "people, single references": [("Index Scan", "gallery_size_pkey"), ("Index Only Scan", "person_template_pkey")],
        "chosen": [("Index Scan", "person_pkey")],
        "one person": [],
    }
    key = next(key for key in sorted(expected, key=len, reverse=True) if name.startswith(key))
    assert [(node.kind, node.index) for node in scanned] == expected[key], (name, scanned)


async def explained(session: AsyncSession, query: str, values: dict[str, Any]) -> dict[str, Any]:
    driver = await driver_of(session)
    row = await (await driver.execute(f"EXPLAIN (FORMAT JSON) {query}", values, prepare=False)).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


async def explained_after(session: AsyncSession, query: str, values: dict[str, Any], uses: int) -> dict[str, Any]:
    """Return the plan of the prepared statement after `uses` uses, as psycopg prepared it."""
    driver = await driver_of(session)
    for _ in range(uses):
        await driver.execute(query, values, prepare=True)
    name, custom, generic, order = await prepared(driver, query)
    assert (custom, generic) == (0, uses)
    literals = ", ".join(AsyncClientCursor(driver).mogrify("%s", [values[parameter]]) for parameter in order)
    row = await (await driver.execute(f"EXPLAIN (FORMAT JSON) EXECUTE {name} ({literals})")).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


async def prepared(driver: psycopg.AsyncConnection[Any], query: str) -> tuple[str, int, int, list[str]]:
    """Return name, uses with a custom plan, uses with the generic plan, and the order of parameters."""
    order: list[str] = []
    for piece in query.split("%(")[1:]:
        parameter = piece.split(")s")[0]
        order += [] if parameter in order else [parameter]
    newest = "FROM pg_prepared_statements ORDER BY prepare_time DESC, name DESC LIMIT 1"
    found = await driver.execute(f"SELECT name, custom_plans, generic_plans {newest}", prepare=False)
    row = await found.fetchone()
    assert row is not None
    return row[0], row[1], row[2], order


@pytest.mark.parametrize("name", QUERIES)
async def test_a_fresh_statement_has_its_plan_right_after_a_load(
    at_hand: AsyncSession, loaded: Loaded, name: str
) -> None:
    check_shape(name, await explained(at_hand, QUERIES[name], values_for(name, loaded)))


@pytest.mark.parametrize("name", QUERIES)
async def test_a_prepared_statement_has_the_same_plan_after_ten_uses(
    at_hand: AsyncSession, loaded: Loaded, name: str
) -> None:
    check_shape(name, await explained_after(at_hand, QUERIES[name], values_for(name, loaded), 10))


def test_every_statement_names_the_tenant_besides_the_policy(own_database: Logins, loaded: Loaded) -> None:
    """The administrator is exempt from the policy, so each condition on the tenant comes from the statement."""
    with connect(own_database.administrator) as connection:
        for setting, value in PLANNING.items():
            connection.execute(f"SET {setting} = {value}")
        for name, query in QUERIES.items():
            row = connection.execute(f"EXPLAIN (FORMAT JSON) {query}", values_for(name, loaded)).fetchone()
            assert row is not None
            read = [node for node in nodes(row[0][0]["Plan"]) if node.relation]
            assert [node for node in read if "tenant_id = " not in node.condition] == [], name


@pytest.mark.parametrize("is_vacuumed", [False, True])
async def test_a_load_looks_up_each_person_by_the_whole_key(loaded: Loaded, is_vacuumed: bool) -> None:
    if is_vacuumed:
        await finish_load(loaded.engine)
    values = {"tenant": loaded.tenant_id, "gallery": loaded.gallery_id, "names": ["a"] * 9, "external_ids": ["b"] * 9}
    async with tenant_session(loaded.engine, loaded.tenant_id) as session:
        with_ids = [ReferenceRow(f"name {place}", f"id {place}", np.ones(512)) for place in range(1000)]
        await add_references(session, await find_gallery(session, "crowd"), with_ids)
        read = [node for node in nodes(await explained(session, SELECT_PEOPLE_BY_KEY, values)) if node.relation]
    assert [node.index for node in read] == ["person_external_id_key", "person_name_key"]
    assert all(" = wanted" in node.condition for node in read)


@pytest.mark.parametrize("people", [30_000, 60_000])
@pytest.mark.parametrize("external_id", ["number::text", "NULL::text", "nullif(mod(number, 2), 0)::text"])
async def test_people_of_earlier_batches_are_looked_up_by_the_whole_key(
    loaded: Loaded, people: int, external_id: str
) -> None:
    """The planner does not know uncommitted batches: for some sizes it read the whole gallery for each."""
    values = {"tenant": loaded.tenant_id, "gallery": loaded.gallery_id, "names": ["a"] * 9, "external_ids": ["b"] * 9}
    insert = f"""INSERT INTO person (tenant_id, gallery_id, id, name, external_id)
        SELECT %(tenant)s, %(gallery)s, -number, CAST(number AS text), {external_id} || number
        FROM generate_series(1, %(people)s) AS number RETURNING id"""
    async with tenant_session(loaded.engine, loaded.tenant_id) as session:
        await fetch_rows_in_transaction(session, insert, values | {"people": people})
        read = [node for node in nodes(await explained(session, SELECT_PEOPLE_BY_KEY, values)) if node.relation]
    assert [node.index for node in read] == ["person_external_id_key", "person_name_key"]


@pytest.mark.parametrize(("floor", "matches"), [("1", 20), ("none", 0)])
async def test_a_list_filtered_by_metadata_reads_the_people_of_its_gallery_along_the_primary_key(
    loaded: Loaded, floor: str, matches: int
) -> None:
    """No index holds metadata. The scan begins at the cursor and ends with the page or with the gallery."""
    insert = """INSERT INTO person (tenant_id, gallery_id, id, name, metadata)
        SELECT tenant_id, id, number, 'filtered ' || number,
            jsonb_build_object('floor', CAST(mod(number, 1000) AS text))
        FROM gallery CROSS JOIN generate_series(1, %(people)s) AS number
        WHERE name IN ('crowd', 'other') RETURNING id"""
    async with tenant_session(loaded.engine, loaded.tenant_id) as session:
        gallery = await find_gallery(session, "crowd")
        await create_gallery(session, "other", space_of())
        await fetch_rows_in_transaction(session, insert, {"people": 20_000})
        sent = await statement_sent_by(session, list_people(session, gallery, metadata={"floor": floor}))
        plan = await explained_with_counts(session, *sent)
    (people,) = [node for node in with_counts(plan) if node.get("Relation Name") == "person"]
    assert people["Index Name"] == "person_pkey"
    condition = people["Index Cond"]
    assert all(f"({column} " in condition for column in ("tenant_id =", "gallery_id =", "id >")), condition
    of_the_gallery = gallery.people + 20_000
    assert people["Actual Rows"] + people.get("Rows Removed by Filter", 0) == of_the_gallery
    counted = [node for node in with_counts(plan) if node.get("Relation Name") == "face"]
    assert [node["Actual Loops"] for node in counted] == [matches]


async def test_a_page_of_people_filtered_by_metadata_reads_no_farther_than_its_end(loaded: Loaded) -> None:
    insert = """INSERT INTO person (tenant_id, gallery_id, id, name, metadata)
        SELECT %(tenant)s, %(gallery)s, number, 'filtered ' || number, '{"floor": 1}'
        FROM generate_series(1, 20000) AS number RETURNING id"""
    async with tenant_session(loaded.engine, loaded.tenant_id) as session:
        gallery = await find_gallery(session, "crowd")
        await fetch_rows_in_transaction(session, insert, {"tenant": loaded.tenant_id, "gallery": gallery.id})
        sent = await statement_sent_by(session, list_people(session, gallery, limit=50, metadata={"floor": 1}))
        plan = await explained_with_counts(session, *sent)
    (people,) = [node for node in with_counts(plan) if node.get("Relation Name") == "person"]
    assert (people["Index Name"], people["Actual Rows"]) == ("person_pkey", 51)
    assert people.get("Rows Removed by Filter", 0) == 0


async def statement_sent_by(session: AsyncSession, work: Coroutine[Any, Any, object]) -> tuple[str, Any]:
    """Run the work, and return the statement that it sent, with its parameters."""
    connection = (await session.connection()).sync_connection
    assert connection is not None
    sent: list[tuple[str, Any]] = []

    def keep(_connection: object, _cursor: object, statement: str, parameters: Any, *_more: object) -> None:
        sent.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", keep)
    await work
    event.remove(connection, "before_cursor_execute", keep)
    (only,) = sent
    return only


async def explained_with_counts(session: AsyncSession, query: str, values: Any) -> dict[str, Any]:
    """Run the statement, and return its plan with the rows that each node read."""
    driver = await driver_of(session)
    row = await (await driver.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query}", values)).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def with_counts(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the node and all nodes below it."""
    return [plan] + [node for child in plan.get("Plans", []) for node in with_counts(child)]


async def test_searches_after_a_finished_load_fetch_no_row_of_the_table(loaded: Loaded) -> None:
    """VACUUM passes over a page that another process has pinned, for example the checkpointer, so it may run again."""
    names = ("people", "faces", "people, bounded")
    async with tenant_session(loaded.engine, loaded.tenant_id) as session:
        # Other tests may have vacuumed already: after a new row, scans read its page until the next vacuum.
        await add_references(session, await find_gallery(session, "crowd"), [ReferenceRow("late", None, np.ones(512))])
        await session.commit()
    assert await heap_fetches(loaded, "people") > 0
    for _ in range(100):
        await finish_load(loaded.engine)
        fetches = [await heap_fetches(loaded, name) for name in names]
        if not any(fetches):
            break
        await asyncio.sleep(0.1)
    assert fetches == [0, 0, 0]


async def heap_fetches(loaded: Loaded, name: str) -> int:
    async with tenant_session(loaded.engine, loaded.tenant_id) as session:
        driver = await driver_of(session)
        query = f"EXPLAIN (ANALYZE, FORMAT JSON) {QUERIES[name]}"
        row = await (await driver.execute(query, values_for(name, loaded))).fetchone()
    assert row is not None
    return json.dumps(row[0]).count("Heap Fetches") and sum(_fetches(row[0][0]["Plan"]))


def _fetches(plan: dict[str, Any]) -> list[int]:
    return [int(plan.get("Heap Fetches", 0))] + [found for child in plan.get("Plans", []) for found in _fetches(child)]


async def test_ten_thousand_galleries_change_no_plan(loaded: Loaded) -> None:
    async with tenant_session(loaded.engine, loaded.tenant_id) as session:
        await add_galleries(session)
        await session.commit()
    for is_vacuumed in (False, True):
        if is_vacuumed:
            await finish_load(loaded.engine)
        async with tenant_session(loaded.engine, loaded.tenant_id) as session:
            for name, query in QUERIES.items():
                check_shape(name, await explained(session, query, values_for(name, loaded)))
                check_shape(name, await explained_after(session, query, values_for(name, loaded), 10))


async def add_galleries(session: AsyncSession) -> None:
    """Galleries of one person with one face each, by SQL alone."""
    driver = await driver_of(session)
    fill = """
        WITH made AS (
            INSERT INTO gallery (tenant_id, name, embedding_space, embedding_space_digest, dimension, metric,
                default_threshold)
            SELECT tenant_id, name || number, embedding_space, embedding_space_digest, dimension, metric,
                default_threshold
            FROM gallery CROSS JOIN generate_series(1, %(galleries)s) AS number RETURNING tenant_id, id
        ), people AS (
            INSERT INTO person (tenant_id, gallery_id, id, name) SELECT tenant_id, id, 1, 'x' FROM made RETURNING 1
        ), templates AS (
            INSERT INTO person_template (tenant_id, gallery_id, person_id, code)
            SELECT made.tenant_id, made.id, 1, code
            FROM made, (SELECT code FROM person_template LIMIT 1) AS any_code RETURNING 1
        )
        INSERT INTO face (tenant_id, gallery_id, person_id, id, code, embedding)
        SELECT made.tenant_id, made.id, 1, 1, code, embedding
        FROM made, (SELECT code, embedding FROM face LIMIT 1) AS any_face
    """
    await driver.execute(fill, {"galleries": GALLERIES})


async def test_no_index_belongs_to_a_single_gallery(loaded: Loaded) -> None:
    async with tenant_session(loaded.engine, loaded.tenant_id) as session:
        driver = await driver_of(session)
        found = await driver.execute(
            "SELECT indexdef FROM pg_indexes WHERE tablename IN ('face', 'person_template', 'person', 'gallery')"
        )
        definitions = [str(row[0]) for row in await found.fetchall()]
    assert len(definitions) < 12
    assert [text for text in definitions if "gallery_id =" in text] == []


async def test_planner_statistics_hold_no_personal_data(own_database: Logins, loaded: Loaded) -> None:
    """Statistics would outlive an erased person, because ANALYZE keeps samples of the values of a column."""
    await finish_load(loaded.engine)
    with connect(own_database.administrator) as connection:
        tables = "('person', 'face', 'face_detail', 'person_template')"
        rows = connection.execute(f"SELECT attname FROM pg_stats WHERE tablename IN {tables}").fetchall()
    assert {name for (name,) in rows} <= {
        "tenant_id",
        "gallery_id",
        "person_id",
        "id",
        "face_id",
        "number",
        "created_at",
    }
    assert len(rows) > 4
