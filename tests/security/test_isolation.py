"""Every route of `/v1` with another tenant's ids: unchanged, and with the statements' own filters removed.

Without the filters only row-level security separates tenants. The answers must be the same.
"""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event

from service.database import libpq
from service.database.connection import Database
from service.encoder.fake_pictures import draw_people
from tests.api.operations import Operation, keyed, orderly
from tests.api.test_every_route import Ids, fill
from tests.support.server import open_client
from tests.support.tenants import fill_tenant

WITH_IDS = [one for one in keyed() if "{" in one.path]
LISTS = [one for one in keyed() if one.method == "GET" and one.path.startswith("/v1/")]
ABSENT = "0" * 13
_FILTER = re.compile(r"((?:\b\w+\.)?\btenant_id) = (%\(\w+\)s(?:::\w+)?)")


@dataclass(frozen=True)
class Pair:
    """Two tenants: a client of each, and its resources."""

    client: httpx.AsyncClient
    own: Ids
    other_client: httpx.AsyncClient
    theirs: Ids


@dataclass
class Rewritten:
    """The statements whose filter was removed."""

    statements: list[str] = field(default_factory=list)


@pytest.fixture
def without_filters(application: FastAPI, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rewritten]:
    """Remove the tenant from the application's statements inside the block, on every path to the database."""
    rewritten = Rewritten()
    engine = application.state.server_state.database.engine.sync_engine

    def without_filter(statement: str) -> str:
        changed = _FILTER.sub(r"(\1 IS NOT NULL OR CAST(\2 AS bigint) IS NULL)", statement)
        if changed != statement:
            rewritten.statements.append(changed)
        return changed

    def take_out(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:
        return without_filter(statement), parameters

    async def run(driver: libpq.Driver, query: str, *arguments: Any, **named: Any) -> Any:
        return await run_as_it_is(driver, without_filter(query), *arguments, **named)

    async def exchange(driver: libpq.Driver, info: dict[Any, Any], statements: Sequence[libpq.Statement]) -> Any:
        rewritten = [libpq.Statement(without_filter(query), values) for query, values in statements]
        return await libpq.ONE_MESSAGE.exchange(driver, info, rewritten)

    async def protocol_of(_: object) -> libpq.Protocol:
        return libpq.ONE_MESSAGE._replace(exchange=exchange)

    run_as_it_is = libpq.run
    monkeypatch.setattr(libpq, "run", run)  # statements in a transaction that bypass SQLAlchemy
    monkeypatch.setattr(libpq, "protocol_of", protocol_of)  # readings in one message, which bypass psycopg too
    event.listen(engine, "before_cursor_execute", take_out, retval=True)
    yield rewritten
    event.remove(engine, "before_cursor_execute", take_out)


@pytest.fixture(scope="module")
async def pair(application: FastAPI, database: Database) -> AsyncIterator[Pair]:
    """Two tenants with the same names for everything. Requests with foreign ids change nothing in either."""
    keys = [(await fill_tenant(database)).key for _ in range(2)]
    async with open_client(application, keys[0]) as client, open_client(application, keys[1]) as other:
        yield Pair(client, await fill(client, "hall"), other, await fill(other, "hall"))


def foreign_urls(operation: Operation, own: Ids, theirs: Ids) -> Iterator[tuple[str, str]]:
    """Return paths with one or more of the other tenant's ids, and the same paths with ids that do not exist."""
    places = [name for name in ("person", "face", "job", "key") if f"{{{name}}}" in operation.path]
    for first in range(len(places)):
        foreign = dict(vars(own)) | {name: getattr(theirs, name) for name in places[first:]}
        absent = dict(vars(own)) | dict.fromkeys(places[first:], ABSENT)
        yield operation.url(**foreign), operation.url(**absent)


async def ask(client: httpx.AsyncClient, operation: Operation, url: str) -> dict[str, Any]:
    """Return everything of an answer that its caller sees, without the ids that the caller sent."""
    answer = await client.request(operation.method, url, **orderly(operation))
    content = answer.json()
    content.pop("request_id", None)
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    return {"status": answer.status_code, "content": str(content), "headers": headers}


def without_ids(answer: dict[str, Any], theirs: Ids) -> dict[str, Any]:
    content = answer["content"]
    for name in ("person", "face", "job", "key"):
        content = content.replace(getattr(theirs, name), ABSENT)
    return answer | {"content": content}


async def check_route(client: httpx.AsyncClient, operation: Operation, own: Ids, theirs: Ids) -> int:
    """Check that foreign ids are answered exactly like absent ids. Returns the number of paths."""
    tried = 0
    for foreign, absent in foreign_urls(operation, own, theirs):
        seen = without_ids(await ask(client, operation, foreign), theirs)
        assert seen["status"] == 404
        assert seen == await ask(client, operation, absent)
        tried += 1
    return tried


@pytest.mark.parametrize("operation", WITH_IDS, ids=str)
async def test_a_resource_of_another_tenant_looks_like_a_missing_one(operation: Operation, pair: Pair) -> None:
    tried = await check_route(pair.client, operation, pair.own, pair.theirs)
    assert tried or operation.path.count("{") == operation.path.count("{gallery}")


@pytest.mark.parametrize("operation", WITH_IDS, ids=str)
async def test_row_level_security_alone_keeps_tenants_apart(
    operation: Operation, pair: Pair, without_filters: Rewritten
) -> None:
    if await check_route(pair.client, operation, pair.own, pair.theirs):
        assert without_filters.statements != []


@pytest.mark.parametrize("operation", LISTS, ids=str)
async def test_row_level_security_alone_keeps_lists_apart(
    operation: Operation, pair: Pair, without_filters: Rewritten
) -> None:
    answer = await pair.client.get(operation.url(**vars(pair.own)))
    assert answer.status_code == 200
    assert without_filters.statements != []
    theirs = pair.theirs
    assert not [found for found in (theirs.person, theirs.face, theirs.job, theirs.key) if found in answer.text]


async def test_the_other_tenant_loses_nothing(pair: Pair, without_filters: Rewritten) -> None:
    """Without the filters, deleting everything of one tenant leaves the other tenant's data unchanged."""
    own = await fill(pair.client, "cellar")
    theirs = await fill(pair.other_client, "cellar")
    before = (await pair.other_client.get("/v1/galleries/cellar/export?format=ndjson")).text
    for path in (
        f"/v1/galleries/cellar/people/{own.person}/faces/{own.face}",
        f"/v1/galleries/cellar/people/{own.person}",
        "/v1/galleries/cellar",
        f"/v1/keys/{own.key}",
    ):
        assert (await pair.client.delete(path)).status_code == 204
    assert (await pair.other_client.get("/v1/galleries/cellar/export?format=ndjson")).text == before
    assert (await pair.other_client.get(f"/v1/galleries/cellar/people/{theirs.person}")).json()["faces"] == 1
    kept = {key["id"]: key["revoked_at"] for key in (await pair.other_client.get("/v1/keys")).json()["items"]}
    assert kept[theirs.key] is None


async def test_the_filters_are_removed_from_the_statements(pair: Pair, without_filters: Rewritten) -> None:
    await pair.client.get(f"/v1/galleries/hall/people/{pair.own.person}")
    assert without_filters.statements != []
    before = len(without_filters.statements)
    picture = {"image": ("ada.jpg", draw_people(["Ada"]))}
    found = await pair.client.post("/v1/galleries/hall/recognize", files=picture)
    assert found.json()["faces"][0]["match"]["person"]["id"] == pair.own.person
    assert any("halfvec" in statement for statement in without_filters.statements[before:])
    assert [one for one in without_filters.statements if "tenant_id = %" in one] == []
