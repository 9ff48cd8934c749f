"""The server behind nginx, with the configuration of docs/proxies.md: refusals and large uploads arrive."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.encoder.fake_pictures import draw_people
from tests.support.folders import OpenFolder
from tests.support.server import ROOT_FOLDER, ServerProcess, reserve_port
from tests.support.waiting import GUARD_SECONDS, wait_until

MEBIBYTE = 2**20
HTTP_1_0 = ("    proxy_http_version 1.1;\n", '    proxy_set_header Connection "";\n')
"""Lines of the page without which nginx speaks HTTP/1.0 to the server."""


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[ServerProcess, str]]:
    """A running server that takes requests of 4 MiB, and a key."""
    if nginx_program() is None:
        pytest.skip("left out: nginx is not installed")
    with OpenFolder() as folder:
        limits = {"MAXIMUM_IMAGE_BYTES": str(4 * MEBIBYTE), "MAXIMUM_REQUEST_BYTES": str(16 * MEBIBYTE)}
        process = ServerProcess(Path(folder), TRUSTED_PROXIES="127.0.0.1", **limits)
        key = process.new_key()
        process.start()
        yield process, key
        process.close()


@pytest.fixture(params=["the configuration of the page", "the same with HTTP/1.0"])
def proxy(service: tuple[ServerProcess, str], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of nginx in front of the server."""
    port = reserve_port()
    (tmp_path / "nginx.conf").write_text(
        configuration(service[0].port, port, tmp_path, speaks_1_0=request.param.endswith("1.0"))
    )
    program = nginx_program()
    assert program is not None
    with (tmp_path / "nginx.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")],
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: answers(port), (tmp_path / "nginx.log").read_text)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=GUARD_SECONDS)


def nginx_program() -> str | None:
    return shutil.which("nginx") or shutil.which("/usr/sbin/nginx")


def configuration(server_port: int, proxy_port: int, folder: Path, *, speaks_1_0: bool) -> str:
    """nginx.conf with the block of the page. Only the ports are replaced."""
    page = (ROOT_FOLDER / "docs/proxies.md").read_text()
    (block,) = re.findall(r"```nginx\n(.*?)```", page, re.DOTALL)
    replaced = {"127.0.0.1:8000": f"127.0.0.1:{server_port}", "listen 443 ssl": f"listen 127.0.0.1:{proxy_port}"}
    for old, new in {**replaced, **(dict.fromkeys(HTTP_1_0, "") if speaks_1_0 else {})}.items():
        assert old in block
        block = block.replace(old, new)
    folders = "".join(
        f"    {kind}_temp_path {folder};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\n    access_log {folder}/access.log;\n{folders}{block}}}\n"
    )


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=GUARD_SECONDS).status_code == 200
    except httpx.TransportError:
        return False


def client_of(proxy: str, key: str | None = None) -> httpx.Client:
    headers = {} if key is None else {"X-API-Key": key}
    return httpx.Client(base_url=proxy, headers=headers, timeout=GUARD_SECONDS)


def large_jpeg(size: int) -> bytes:
    """A drawn person in a JPEG of that many bytes: comments fill it up."""
    picture = draw_people(["Ada"])
    missing = size - len(picture)
    comment = b"\xff\xfe" + (65_000).to_bytes(2, "big") + bytes(64_998)
    return picture[:2] + comment * (missing // len(comment)) + picture[2:]


def test_refusals_before_the_body_was_read_arrive_as_they_are(proxy: str, service: tuple[ServerProcess, str]) -> None:
    image = {"image": ("a.jpg", bytes(8 * MEBIBYTE))}
    with client_of(proxy) as stranger, client_of(proxy, service[1]) as client:
        for _ in range(20):
            without_key, too_large = stranger.post("/v1/detect", files=image), client.post("/v1/detect", files=image)
            assert (without_key.status_code, without_key.json()["type"]) == (401, "urn:face-identity:unauthenticated")
            assert (too_large.status_code, too_large.json()["type"]) == (413, "urn:face-identity:payload-too-large")
        huge = client.post("/v1/detect", files={"image": bytes(20 * MEBIBYTE)})
        assert (huge.status_code, huge.headers["content-type"]) == (413, "application/problem+json")


def test_large_uploads_and_imports_arrive(proxy: str, service: tuple[ServerProcess, str]) -> None:
    staff, imported = (f"{name}-{httpx.URL(proxy).port}" for name in ("staff", "imported"))
    with client_of(proxy, service[1]) as client:
        client.post("/v1/galleries", json={"name": staff})
        image = {"image": ("ada.jpg", large_jpeg(3 * MEBIBYTE))}
        enrolled = client.post(f"/v1/galleries/{staff}/faces?person=Ada", files=image)
        assert (enrolled.status_code, enrolled.json()["person"]["name"]) == (201, "Ada")
        rows = [[f"person{number}", f"0.1,0.2,{number}"] for number in range(100_000)]
        client.post("/v1/galleries", json={"name": imported, "embedding_space": "external:legacy:3"})
        job = client.post(f"/v1/galleries/{imported}/import", content=json.dumps(rows).encode())
        assert job.status_code == 202, job.text


def test_the_doors_of_the_operator_are_closed(proxy: str, service: tuple[ServerProcess, str]) -> None:
    with client_of(proxy, service[1]) as client:
        assert {client.get(path).status_code for path in ("/metrics", "/v1/operator/tenants")} == {403}
        assert client.get("/readyz").status_code == 200
