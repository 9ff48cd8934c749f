"""LEGACY_API=open: callers without a key, and what protects them and the server from each other.

Such a server usually listens on 127.0.0.1 or in a private network, where a browser can reach it. A page of another
site must not use it through the browser. A browser tells the site in `Origin`, except if the name of that site was made
to lead to this server (DNS rebinding): then the page is of the same origin, and only `Host` shows the foreign name.
"""

import ipaddress
from dataclasses import replace
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from service.access.quotas import Quotas, quotas_of_new_tenants
from service.errors import Forbidden
from service.settings import MEBIBYTE, Settings

OPEN_INFERENCES_PER_MINUTE = 600
OPEN_STORED_BYTES = 1024 * MEBIBYTE
"""Largest quotas of the tenant of callers without a key when it is made. Smaller ones of new tenants hold for it."""


def check_origin(headers: Headers, settings: Settings) -> None:
    """Raises Forbidden for a host name that is not allowed, and for a page of an origin that is not allowed."""
    host = _name_of(f"//{headers.get('host', '')}")
    if not _is_allowed(host, settings):
        raise Forbidden(f"the host {host[:100]!r} is not in LEGACY_HOSTS; send a key, or use an allowed name")
    origin = headers.get("origin")
    if origin is not None and origin not in settings.allowed_origins and _name_of(origin) != host:
        raise Forbidden("pages of this origin are not in ALLOWED_ORIGINS; send a key")


def open_quotas(settings: Settings) -> Quotas:
    """The quotas that the tenant of callers without a key gets when it is made."""
    quotas = quotas_of_new_tenants(settings)
    return replace(
        quotas,
        inferences_per_minute=min(
            quotas.inferences_per_minute or OPEN_INFERENCES_PER_MINUTE, OPEN_INFERENCES_PER_MINUTE
        ),
        maximum_stored_bytes=min(quotas.maximum_stored_bytes or OPEN_STORED_BYTES, OPEN_STORED_BYTES),
    )


def _is_allowed(host: str, settings: Settings) -> bool:
    """Whether the host is an address, which no name can be made to stand for, or one of the allowed names."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host in {name.lower() for name in settings.legacy_hosts}
    return True


def _name_of(url: str) -> str:
    """The host of a URL in lower case, empty if there is none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""
