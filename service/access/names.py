"""Checks of the names of tenants and keys."""

from service.errors import InvalidRequest

MAXIMUM_NAME_LENGTH = 200


def check_tenant_name(name: str) -> None:
    """Raises InvalidRequest for a tenant name that cannot be part of a URL or is not a valid name."""
    check_name(name)
    if "/" in name or name in {".", ".."}:
        raise InvalidRequest("the name of a tenant is part of URLs, so it must not contain a slash or be . or ..")


def check_name(name: str) -> None:
    """Raises InvalidRequest for a name that is empty, too long or not printable."""
    if not name.strip() or len(name) > MAXIMUM_NAME_LENGTH or not name.isprintable():
        raise InvalidRequest(f"a name has 1 to {MAXIMUM_NAME_LENGTH} printable characters")
