"""The first address that people try, HEAD, prefixes of proxies, and heads that two servers read differently."""

import os
import pty
import re
import socket
import subprocess

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from service.encoder.fake_pictures import draw_people
from tests.api.operations import operations
from tests.api.test_every_route import fill
from tests.support.server import PROGRAM, ServerProcess
from tests.support.waiting import GUARD_SECONDS


async def test_the_root_leads_to_the_page_of_the_api(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.get("/", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/docs")
    assert "/v1/detect" in answer.text


async def test_the_root_leads_to_the_page_also_behind_a_prefix(application: FastAPI) -> None:
    transport = httpx.ASGITransport(application, root_path="/faces")
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        assert (await client.get("/faces/")).headers["location"] == "/faces/docs"
        described = (await client.get("/faces/openapi.json")).json()
    assert described["servers"] == [{"url": "/faces"}]


async def test_without_a_prefix_the_document_names_no_server(anonymous: httpx.AsyncClient) -> None:
    assert "servers" not in (await anonymous.get("/openapi.json")).json()


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/openapi.json", *(one.path for one in operations() if one.method == "GET")]
)
async def test_head_is_answered_wherever_get_is(path: str, client: httpx.AsyncClient) -> None:
    ids = await fill(client)
    url = path.format(**vars(ids), tenant="nobody")
    got, headed = await client.get(url), await client.head(url)
    assert (headed.status_code, headed.content) == (got.status_code, b"")
    assert headed.headers.get("content-type") == got.headers.get("content-type")


async def test_head_has_the_same_problems_as_get(client: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    assert (await anonymous.head("/v1/galleries")).status_code == 401
    assert (await client.head("/v1/galleries/nothing")).status_code == 404
    assert (await client.head("/nothing")).status_code == 404
    refused = await client.head("/v1/detect")
    assert (refused.status_code, refused.headers["allow"], refused.content) == (405, "POST", b"")


async def test_the_application_itself_sends_no_body_for_head(application: FastAPI) -> None:
    """The client of the other tests and uvicorn would drop a body; another server may not."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "HEAD", "path": "/healthz", "raw_path": b"/healthz", "query_string": b""}
    await application({**scope, "headers": [(b"host", b"a")], "http_version": "1.1"}, receive, send)
    start, *bodies = sent
    assert start["status"] == 200
    assert [message.get("body", b"") for message in bodies] == [b""]


async def test_allow_names_head_beside_get(client: httpx.AsyncClient) -> None:
    assert (await client.put("/v1/galleries")).headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("path", sorted({one.path for one in operations()}))
async def test_allow_names_the_methods_of_the_document(path: str, client: httpx.AsyncClient) -> None:
    documented = {one.method for one in operations() if one.path == path}
    url = path.format(gallery="staff", person="p", face="f", job="j", key="k", tenant="t")
    refused = await client.options(url)
    allowed = set(refused.headers["allow"].split(", "))
    assert (refused.status_code, allowed) == (405, documented | ({"HEAD"} if "GET" in documented else set()))


async def test_the_route_for_embeddings_is_not_the_address_of_a_face(client: httpx.AsyncClient) -> None:
    ids = await fill(client)
    faces = f"/v1/galleries/staff/people/{ids.person}/faces"
    assert (await client.delete(f"{faces}/embedding")).status_code == 405
    assert (await client.delete(f"{faces}/{ids.face}")).status_code == 204


async def test_a_path_that_does_not_exist_leads_to_the_page_of_the_api(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/faces")
    assert (answer.status_code, "/docs" in answer.json()["detail"]) == (404, True)


def test_requests_over_the_wire(server: ServerProcess) -> None:
    """HEAD without a body, targets in absolute form, and two lengths in one head."""
    server.environment["ROOT_PATH"] = "/faces"
    key = server.new_key()
    server.start()
    with server.client(key) as client:
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/faces"}]
        assert client.head("/healthz").headers["content-length"] == str(len(client.get("/healthz").content))
        assert client.post("/v1/detect", files={"image": draw_people(["Ada"])}).status_code == 200
    host = f"127.0.0.1:{server.port}"
    for target in (f"http://{host}/healthz", f"HTTP://{host}/healthz?x=1", "/healthz"):
        assert exchange(server.port, f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").startswith(b"HTTP/1.1 200")
    head = exchange(server.port, f"HEAD /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n")
    assert head.partition(b"\r\n\r\n")[2] == b""
    both = f"POST /v1/galleries HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    smuggled = "0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = exchange(server.port, both + smuggled)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"ambiguous-length" in answer
    assert answer.count(b"HTTP/1.1 ") == 1


def exchange(port: int, sent: str) -> bytes:
    """Send bytes, and return what comes back until the server closes or half a second is silent after an answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=GUARD_SECONDS) as wire:
        wire.sendall(sent.encode())
        received = wire.recv(65536)
        wire.settimeout(0.5)
        try:
            while more := wire.recv(65536):
                received += more
        except TimeoutError:
            return received
    return received


def test_on_a_terminal_serve_prints_its_address_and_how_to_get_a_key(server: ServerProcess) -> None:
    terminal, inside = pty.openpty()
    arguments = [*PROGRAM, "serve", "--host", "127.0.0.1", "--port", str(server.port)]
    process = subprocess.Popen(arguments, cwd=server.folder, env=server.environment, stdout=inside, stderr=inside)
    os.close(inside)
    shown = b""
    try:
        while b"Ctrl-C" not in shown and b"serving " not in shown:  # that is the line of the log
            shown += os.read(terminal, 4096)
        lines = shown.decode().splitlines()
        assert [line for line in lines if re.search(rf" http://127\.0\.0\.1:{server.port}$", line)]
        assert [line for line in lines if line.endswith(f" http://127.0.0.1:{server.port}/docs")]
        assert [line for line in lines if "face-identity keys create" in line]
        assert [line for line in lines if line.startswith("{")] == []
        assert httpx.get(f"{server.url}/healthz", timeout=GUARD_SECONDS).status_code == 200
    finally:
        process.terminate()
        process.wait(timeout=GUARD_SECONDS)
        os.close(terminal)


def test_elsewhere_serve_logs_lines_of_json(server: ServerProcess) -> None:
    server.start()
    assert '"event": "serving"' in server.log
    assert "Ctrl-C" not in server.log
