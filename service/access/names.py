"""What a tenant or a key may be called."""

from service.errors import InvalidRequest

MAXIMUM_NAME_LENGTH = 200


def check_name(name: str) -> None:
    """InvalidRequest for a name of a tenant or key that is empty, too long or not printable."""
    if not name.strip() or len(name) > MAXIMUM_NAME_LENGTH or not name.isprintable():
        raise InvalidRequest(f"a name has 1 to {MAXIMUM_NAME_LENGTH} printable characters")
