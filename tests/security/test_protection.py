"""Security headers, allowed origins, trusted proxies, and TLS."""

import shutil
import ssl
import subprocess
import warnings
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.errors import InvalidSettings
from service.http.protection import server_options
from service.settings import Settings
from tests.security.conftest import RunningServer
from tests.support.server import ServerProcess, open_client


def settings_with(**values: object) -> Settings:
    return Settings(_env_file=None, encoder="fake", **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/v1/galleries", "/healthz", "/nothing", "/v1/operator/tenants", "/openapi.json"])
async def test_no_answer_is_cached_or_framed(path: str, anonymous: httpx.AsyncClient) -> None:
    headers = (await anonymous.get(path)).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "server" not in headers
    assert "strict-transport-security" not in headers


async def test_a_page_of_another_origin_cannot_read_answers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/galleries", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert (await client.options("/v1/galleries", headers=asked)).status_code == 405


async def test_only_named_origins_can_read_answers() -> None:
    app = create_app(settings_with(allowed_origins="https://console.example, http://localhost:3000"))
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    async with open_client(app) as browser:
        allowed = await browser.options("/v1/galleries", headers=asked | {"Origin": "https://console.example"})
        assert allowed.headers["access-control-allow-origin"] == "https://console.example"
        assert "access-control-allow-credentials" not in allowed.headers
        refused = await browser.options("/v1/galleries", headers=asked | {"Origin": "https://console.example.evil"})
        assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize("origins", ["*", "console.example", "https://*.example", "https://a.example/path", "null"])
def test_an_incomplete_origin_is_refused(origins: str) -> None:
    with pytest.raises(InvalidSettings, match="ALLOWED_ORIGINS"):
        create_app(settings_with(allowed_origins=origins))


@pytest.mark.parametrize("proxies", ["*", "proxy.example", "10.0.0.0/33"])
def test_a_proxy_that_is_not_an_address_is_refused(proxies: str) -> None:
    with pytest.raises(InvalidSettings, match="TRUSTED_PROXIES"):
        server_options(settings_with(trusted_proxies=proxies))


def test_forwarded_headers_of_an_unknown_proxy_are_ignored(running: RunningServer) -> None:
    with running.process.client() as client:
        answer = client.get("/healthz", headers={"X-Forwarded-Proto": "https", "X-Forwarded-For": "10.9.8.7"})
    assert "strict-transport-security" not in answer.headers
    assert "10.9.8.7" not in running.process.log


def test_a_key_without_its_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="SERVER_SSL_CONTEXT"):
        server_options(settings_with(server_ssl_keyfile=tmp_path / "key.pem"))
    with pytest.raises(InvalidSettings, match="there is no file"):
        server_options(settings_with(server_ssl_context=tmp_path / "certificate.pem"))
    (tmp_path / "certificate.pem").write_text("nonsense")
    with pytest.raises(InvalidSettings, match="do not belong together"):
        server_options(settings_with(server_ssl_context=tmp_path / "certificate.pem"))


def test_only_modern_tls_is_served(server: ServerProcess, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    server.environment |= {"SERVER_SSL_CONTEXT": str(certificate), "SERVER_SSL_KEYFILE": str(key)}
    server.trust = ssl.create_default_context(cafile=certificate)
    with server.start().client() as client:
        answer = client.get("/healthz")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{server.port}/healthz")
    old = ssl.create_default_context(cafile=certificate)
    with warnings.catch_warnings(action="ignore"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.url}/healthz", verify=old)


@pytest.mark.parametrize(("address", "is_believed"), [("10.1.2.3", True), ("127.0.0.1", True), ("11.1.2.3", False)])
async def test_only_forwarded_headers_of_named_proxies_are_used(
    application: FastAPI, address: str, is_believed: bool
) -> None:
    served = uvicorn.Config(application, **server_options(settings_with(trusted_proxies="10.0.0.0/8, 127.0.0.1")))
    served.load()
    transport = httpx.ASGITransport(served.loaded_app, client=(address, 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        answer = await client.get("/healthz", headers={"X-Forwarded-Proto": "https"})
    assert ("strict-transport-security" in answer.headers) == is_believed


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1, and its key."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("left out: the certificate is made with the program openssl, which is not here")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    asked = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    asked += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*asked, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    return certificate, key
