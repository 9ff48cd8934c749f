"""Security headers of every answer, and the trusted origins and proxies: only those that the settings name."""

import ipaddress
import re
import ssl
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import Scope

from service.errors import InvalidSettings
from service.settings import Settings

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_YEAR_SECONDS = 365 * 24 * 3600
_ALWAYS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"x-frame-options": b"DENY",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cache-control": b"no-store",  # nearly every answer holds biometric data
}
_TRANSPORT = b"max-age=%d" % _YEAR_SECONDS


def protected(scope: Scope, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer with the security headers added. Headers that the route set stay."""
    present = {name.lower() for name, _ in headers}
    wanted = dict(_ALWAYS)
    if scope.get("scheme") == "https":
        wanted[b"strict-transport-security"] = _TRANSPORT
    return headers + [(name, value) for name, value in wanted.items() if name not in present]


def allow_origins(app: FastAPI, settings: Settings) -> None:
    """Let pages of ALLOWED_ORIGINS call `app` from a browser, with a key and never with cookies."""
    origins = settings.allowed_origins
    for origin in origins:
        if _ORIGIN.fullmatch(origin) is None:
            raise InvalidSettings(f"ALLOWED_ORIGINS: {origin!r} must have the form https://host or https://host:port")
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["X-API-Key", "Authorization", "Content-Type"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )


def server_options(settings: Settings) -> dict[str, Any]:
    """Options of uvicorn for TLS and proxies. Raises InvalidSettings, which names the wrong setting."""
    return {**_prefix(settings), **_proxies(settings), **_certificate(settings)}


def _prefix(settings: Settings) -> dict[str, Any]:
    prefix = settings.root_path.rstrip("/")
    if prefix and _PREFIX.fullmatch(prefix) is None:
        raise InvalidSettings(f"ROOT_PATH: {prefix!r} must have the form /prefix")
    return {"root_path": prefix}


def _proxies(settings: Settings) -> dict[str, Any]:
    named = settings.trusted_proxies
    for address in named:
        try:
            ipaddress.ip_network(address, strict=False)
        except ValueError:
            raise InvalidSettings(f"TRUSTED_PROXIES: {address!r} is neither an address nor a network") from None
    return {"proxy_headers": bool(named), "forwarded_allow_ips": named}


def _certificate(settings: Settings) -> dict[str, Any]:
    certificate, key = settings.server_ssl_context, settings.server_ssl_keyfile
    if certificate is None:
        if key is not None:
            raise InvalidSettings("SERVER_SSL_KEYFILE needs SERVER_SSL_CONTEXT, the certificate")
        return {}
    _check_file("SERVER_SSL_CONTEXT", certificate)
    if key is not None:
        _check_file("SERVER_SSL_KEYFILE", key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise InvalidSettings(f"SERVER_SSL_CONTEXT and SERVER_SSL_KEYFILE do not belong together: {error}") from None
    return {"ssl_certfile": certificate, "ssl_keyfile": key}


def _check_file(name: str, path: Path) -> None:
    if not path.is_file():
        raise InvalidSettings(f"{name}: there is no file {str(path)!r}")
