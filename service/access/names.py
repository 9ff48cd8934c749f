"""Names: of tenants and keys, and the scopes of a key.

There is no order among scopes, and a key without a scope cannot do what the scope allows.
"""

from service.database.names import canonical_name
from service.errors import InvalidRequest

MAXIMUM_NAME_LENGTH = 200
SCOPES = {
    "recognize": "identification (1:N): who is in an image",
    "verify": "verification (1:1): does an image show a person, and comparison of two images",
    "enroll": "create galleries and people, add faces, import",
    "read": "list and read galleries, people and jobs",
    "export": "read embeddings in bulk",
    "erase": "delete faces, people and galleries",
    "admin": "keys and settings of the tenant",
    "probe": "recognize and verify embeddings, see exact similarities and candidates below the threshold",
}
PROBE = "probe"
DEFAULT_SCOPES = [scope for scope in SCOPES if scope != PROBE]
"""The scopes of a key that names none. Embeddings as probes and exact similarities together rebuild the references, so
`probe` has to be asked for.
"""


def check_tenant_name(name: str) -> str:
    """Return the name in its canonical form. Raises InvalidRequest if it cannot be part of a URL or is not valid."""
    name = canonical_name(name)
    check_name(name)
    if "/" in name or name in {".", ".."}:
        raise InvalidRequest("the name of a tenant is part of URLs, so it must not contain a slash or be . or ..")
    return name


def check_name(name: str) -> None:
    """Raises InvalidRequest for a name that is empty, too long or not printable."""
    if not name.strip() or len(name) > MAXIMUM_NAME_LENGTH or not name.isprintable():
        raise InvalidRequest(f"a name has 1 to {MAXIMUM_NAME_LENGTH} printable characters")


def check_scopes(names: list[str]) -> list[str]:
    """The names, sorted and without repetition. Raises InvalidRequest for an unknown scope."""
    unknown = sorted(set(names) - set(SCOPES))
    if unknown:
        raise InvalidRequest(f"unknown scope {unknown[0]!r}; the scopes are {', '.join(SCOPES)}")
    return sorted(set(names))
