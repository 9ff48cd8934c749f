"""Every error is answered as problem+json, with a number, and without internals."""

import httpx
import pytest
import structlog

from service.encoder.fake_pictures import draw_people
from service.telemetry import configure_logging
from tests.support.server import MakeClient

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
        assert answer.headers["allow"] == ("GET" if path == "/healthz" else "GET, POST")


@pytest.mark.parametrize(
    ("sent", "kept"), [("my-request.1", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("", False)]
)
async def test_a_plain_request_number_of_the_client_is_kept(
    sent: str, kept: bool, anonymous: httpx.AsyncClient
) -> None:
    number = (await anonymous.get("/healthz", headers={"X-Request-ID": sent})).headers["x-request-id"]
    assert (number == sent) == kept
    assert number


async def test_answers_are_not_kept_by_caches_and_not_shared_with_other_origins(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/galleries", headers={"Origin": "https://elsewhere.example"})
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_the_log_has_route_status_and_tenant_and_nothing_that_was_sent(
    make_client: MakeClient, tenant_id: int
) -> None:
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
