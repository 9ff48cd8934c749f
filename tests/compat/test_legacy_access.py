"""Who may use the legacy dialect: callers with a key (the default), nobody, or everybody as one tenant of their own."""

import asyncio
import base64

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import create_async_engine

from service.access.keys import create_key
from service.access.operator import operator_transaction
from service.access.quotas import Quotas
from service.access.tenants import change_quotas
from service.app import create_app
from service.compat.legacy.open_mode import open_quotas
from service.database.connection import Database
from service.database.session import tenant_session
from service.encoder.fake_pictures import draw_people
from service.settings import Settings
from tests.compat.test_legacy_callers import Field, post
from tests.support.server import MakeClient, open_client

PATHS = [
    "/detector/image",
    "/encoder/image",
    "/encoder/images",
    "/recognizer/image",
    "/detector/stream",
    "/recognizer/stream",
]
FIELDS: list[Field] = [("file", draw_people(["ada"]), "a.jpg"), ("key", "ada", None), ("dataset", b"[]", "d.json")]


@pytest.mark.parametrize("path", PATHS)
async def test_a_key_is_required_by_default(anonymous: httpx.AsyncClient, path: str) -> None:
    answer = await post(anonymous, path, *FIELDS)
    assert answer.status_code == 401
    assert list(answer.json()) == ["error"]
    assert answer.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize("path", PATHS[:4])
async def test_a_key_opens_the_dialect(client: httpx.AsyncClient, path: str) -> None:
    assert (await post(client, path, *FIELDS)).status_code == 200


@pytest.mark.parametrize("path", PATHS)
async def test_the_key_needs_the_scope_recognize(make_client: MakeClient, tenant_id: int, path: str) -> None:
    client = await make_client(tenant_id, ["read", "enroll", "verify", "export", "erase", "admin"])
    answer = await post(client, path, *FIELDS)
    assert answer.status_code == 403
    assert "recognize" in answer.json()["error"]


async def test_a_key_can_be_sent_in_the_address(application: FastAPI, database: Database, tenant_id: int) -> None:
    """A caller that does not know keys gets `key:fik_...@host` as its host."""
    async with tenant_session(database.engine, tenant_id) as session:
        _, key = await create_key(session, "legacy", ["recognize"])
        await session.commit()
    async with open_client(application) as client:
        answer = await client.post(f"http://any:{key}@service/detector/image", files={"file": draw_people(["ada"])})
        assert answer.status_code == 200
        answer = await client.post("http://any:wrong@service/detector/image", files={"file": draw_people(["ada"])})
        assert answer.status_code == 401


NOT_TEXT = base64.b64encode(b"\xff:x").decode()


@pytest.mark.parametrize("credentials", ["Basic", "Basic ", "Basic !!", f"Basic {NOT_TEXT}"])
async def test_damaged_credentials_are_no_key(anonymous: httpx.AsyncClient, credentials: str) -> None:
    assert (await post(anonymous, "/encoder/image", *FIELDS, authorization=credentials)).status_code == 401


async def test_the_dialect_can_be_switched_off(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"legacy_api": "off"}))
    async with open_client(app) as client:
        for path in [*PATHS, "/legacy/docs"]:
            answer = await client.post(path)
            assert (answer.status_code, answer.json()["type"]) == (404, "urn:face-identity:not-found")


async def test_other_paths_are_answered_by_the_main_application(anonymous: httpx.AsyncClient) -> None:
    for path in ["/detector", "/detector/image/", "/encoder/other"]:
        assert (await anonymous.post(path)).json()["type"] == "urn:face-identity:not-found"


async def test_a_wrong_key_is_refused_in_open_mode_too(gnosis: httpx.AsyncClient) -> None:
    answer = await post(gnosis, "/encoder/image", *FIELDS, **{"x-api-key": "fik_1_wrong"})
    assert answer.status_code == 401


async def test_a_caller_with_a_key_acts_for_its_own_tenant_in_open_mode(
    open_application: FastAPI, database: Database, tenant_id: int, make_client: MakeClient
) -> None:
    owner = await make_client(tenant_id)
    assert (await owner.post("/v1/galleries", json={"name": "staff"})).status_code == 201
    fields: list[Field] = [("file", draw_people(["ada"]), "a.jpg"), ("gallery", "staff", None)]
    async with open_client(open_application, owner.headers["x-api-key"]) as client:
        assert (await post(client, "/recognizer/image", *fields)).status_code == 200
    async with open_client(open_application) as nobody:
        answer = await post(nobody, "/recognizer/image", *fields)
        assert (answer.status_code, "staff" in answer.json()["error"]) == (400, True)


async def test_open_callers_share_the_rate_limit_of_their_tenant(
    open_application: FastAPI, gnosis: httpx.AsyncClient, database: Database
) -> None:
    name = open_application.state.server_state.settings.legacy_tenant
    assert (await post(gnosis, "/encoder/image", *FIELDS)).status_code == 200
    engine = create_async_engine(database.logins.service)
    async with operator_transaction(engine) as connection:
        await change_quotas(connection, name, Quotas(inferences_per_minute=1))
    try:
        while (await post(gnosis, "/encoder/image", *FIELDS)).status_code == 429:  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # the requests of other tests are charged too
        statuses = [(await post(gnosis, "/encoder/image", *FIELDS)).status_code for _ in range(2)]
    finally:
        async with operator_transaction(engine) as connection:
            await change_quotas(connection, name, Quotas())
        await engine.dispose()
    assert statuses == [429, 429]


@pytest.mark.parametrize(
    ("host", "origin", "is_answered"),
    [
        ("service", None, True),
        ("SERVICE:8000", None, True),
        ("127.0.0.1:8000", None, True),
        ("[::1]:8000", None, True),
        ("evil.example", None, False),
        ("evil.example:8000", "http://evil.example:8000", False),
        ("service.evil.example", None, False),
        ("[", None, False),
        ("service", "http://service", True),
        ("service", "https://evil.example", False),
        ("127.0.0.1", "null", False),
    ],
)
async def test_a_page_of_another_site_cannot_use_open_mode(
    gnosis: httpx.AsyncClient, host: str, origin: str | None, is_answered: bool
) -> None:
    """Also not by a name that was made to lead to this server (DNS rebinding)."""
    headers = {"host": host} | ({} if origin is None else {"origin": origin})
    answer = await post(gnosis, "/encoder/image", *FIELDS, **headers)
    assert answer.status_code == (200 if is_answered else 403)


async def test_a_caller_with_a_key_may_use_any_name(open_application: FastAPI, client: httpx.AsyncClient) -> None:
    async with open_client(open_application, client.headers["x-api-key"]) as caller:
        assert (await post(caller, "/encoder/image", *FIELDS, host="evil.example")).status_code == 200


def test_the_tenant_of_callers_without_a_key_starts_with_limits() -> None:
    quotas = open_quotas(Settings(_env_file=None))
    assert (quotas.inferences_per_minute, quotas.maximum_stored_bytes) == (600, 1024**3)
    chosen = open_quotas(Settings(_env_file=None, tenant_inferences_per_minute=5))
    assert chosen.inferences_per_minute == 5
