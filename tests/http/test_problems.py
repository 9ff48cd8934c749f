"""Every error is answered as problem+json, with a number, and without internals."""

import httpx
import psycopg
import pytest
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine

from service.access.key_format import new_key
from service.database.connection import Database
from service.database.failures import DATABASE_FAILURES
from service.encoder.fake_pictures import draw_people
from service.errors import DatabaseUnavailable, NotFound, ServiceError
from service.http.problems import install_problems, known_error
from service.telemetry import configure_logging
from tests.support.server import MakeClient, open_client

PROBLEM = "application/problem+json"
MEMBERS = {"type", "title", "status", "detail", "request_id"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing-here", 404),
        ("GET", "/v1/galleries/", 404),
        ("PUT", "/v1/galleries", 405),
        ("FETCH", "/v1/galleries", 405),
        ("GET", "/v1/galleries", 401),
        ("POST", "/healthz", 405),
    ],
)
async def test_every_error_is_a_problem(method: str, path: str, status: int, anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    assert answer.json().keys() >= MEMBERS
    assert answer.json()["status"] == status
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    if status == 405:
        assert answer.headers["allow"] == ("GET, HEAD" if path == "/healthz" else "GET, HEAD, POST")


@pytest.mark.parametrize(
    ("sent", "kept"), [("my-request.1", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("", False)]
)
async def test_a_plain_request_id_of_the_client_is_kept(sent: str, kept: bool, anonymous: httpx.AsyncClient) -> None:
    number = (await anonymous.get("/healthz", headers={"X-Request-ID": sent})).headers["x-request-id"]
    assert (number == sent) == kept
    assert number


async def test_answers_are_not_cached_and_not_shared_with_other_origins(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/galleries", headers={"Origin": "https://elsewhere.example"})
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_the_log_has_route_status_and_tenant_and_no_input(make_client: MakeClient, tenant_id: int) -> None:
    client = await make_client(tenant_id)
    configure_logging("INFO")
    canaries = ["canary-gallery", "canary-query", "0.7654321", "canary-file", client.headers["x-api-key"]]
    with structlog.testing.capture_logs() as lines:
        await client.post("/v1/galleries", json={"name": canaries[0]})
        await client.get("/v1/galleries/canary-gallery/people", params={"name": canaries[1]})
        await client.post("/v1/galleries/canary-gallery/recognize", json={"embedding": [0.7654321]})
        await client.post(
            "/v1/galleries/canary-gallery/recognize", files={"image": ("canary-file.jpg", draw_people(["Ada"]))}
        )
    configure_logging("ERROR")
    requests = [line for line in lines if line["event"] == "request"]
    assert [(line["route"], line["status"], line["tenant"]) for line in requests] == [
        ("/v1/galleries", 201, tenant_id),
        ("/v1/galleries/{gallery}/people", 200, tenant_id),
        ("/v1/galleries/{gallery}/recognize", 422, tenant_id),
        ("/v1/galleries/{gallery}/recognize", 200, tenant_id),
    ]
    assert [canary for canary in canaries if canary in str(lines)] == []


async def test_a_gallery_name_with_a_null_character_is_not_found(client: httpx.AsyncClient) -> None:
    for path in ("/v1/galleries/a%00b", "/v1/galleries/a%00b/people"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:face-identity:not-found")


async def test_a_validation_error_names_the_field_and_never_the_value(client: httpx.AsyncClient) -> None:
    for field, answer in (
        ("body.threshold", await client.post("/v1/galleries", json={"name": "staff", "threshold": "canary-value"})),
        ("query.limit", await client.get("/v1/galleries", params={"limit": "canary-value"})),
    ):
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == [field]
        assert "canary" not in answer.text


def test_a_field_that_the_client_invented_is_shown_printable_and_short() -> None:
    invented = {"loc": ("body", "a\u001b[2J\u202e" + "x" * 1000), "msg": "is not a field", "type": "extra"}
    known = known_error(RequestValidationError([invented]))
    assert known is not None
    assert known.members["errors"] == [{"field": ("body.a?[2J?" + "x" * 1000)[:100], "reason": "is not a field"}]


async def test_a_pool_without_a_free_connection_is_503(application: FastAPI, database: Database) -> None:
    engine = application.state.server_state.database.engine
    full = create_async_engine(database.logins.service, pool_size=1, max_overflow=0, pool_timeout=0.01)
    async with full.connect(), open_client(application, new_key(1)) as client:
        application.state.server_state.database.engine = full
        try:
            answer = await client.get("/v1/galleries")
        finally:
            application.state.server_state.database.engine = engine
    await full.dispose()
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:face-identity:database-unavailable")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(("error", "count"), [(DatabaseUnavailable("away"), 1), (NotFound("nothing"), 0)])
def test_faults_of_the_service_are_logged_and_those_of_the_client_are_not(error: ServiceError, count: int) -> None:
    configure_logging("INFO")
    with structlog.testing.capture_logs() as lines:
        assert known_error(error) is error
    configure_logging("ERROR")
    assert [line["problem"] for line in lines] == [error.slug] * count


def test_a_lost_connection_is_503_whichever_driver_reports_it() -> None:
    for error in (psycopg.OperationalError("gone"), OperationalError("SELECT", {}, psycopg.OperationalError("gone"))):
        known = known_error(error)
        assert isinstance(known, DatabaseUnavailable)
        assert "gone" not in known.detail
    assert known_error(ProgrammingError("SELECT", {}, psycopg.ProgrammingError("typo"))) is None


def test_the_application_answers_every_driver_error_of_the_list() -> None:
    app = FastAPI()
    install_problems(app)
    assert set(DATABASE_FAILURES) <= app.exception_handlers.keys()
