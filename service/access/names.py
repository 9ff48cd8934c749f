"""What a tenant or a key may be called."""

from service.errors import InvalidRequest

MAXIMUM_NAME_LENGTH = 200


def check_tenant_name(name: str) -> None:
    """InvalidRequest for a name of a tenant that could not stand in an address, or that no key may have either."""
    check_name(name)
    if "/" in name or name in {".", ".."}:
        raise InvalidRequest("a tenant's name stands in addresses, so it has no slash and is not . or ..")


def check_name(name: str) -> None:
    """InvalidRequest for a name of a tenant or key that is empty, too long or not printable."""
    if not name.strip() or len(name) > MAXIMUM_NAME_LENGTH or not name.isprintable():
        raise InvalidRequest(f"a name has 1 to {MAXIMUM_NAME_LENGTH} printable characters")
