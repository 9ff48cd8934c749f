"""What a key may do. A key without a scope cannot do the thing; there is no order among scopes."""

from service.errors import InvalidRequest

SCOPES = {
    "recognize": "identification (1:N): who is in this picture",
    "verify": "verification (1:1): is this that person, and comparison of two pictures",
    "enroll": "create galleries and people, add faces, import",
    "read": "list and read galleries, people and jobs",
    "export": "read embeddings in bulk",
    "erase": "delete faces, people and galleries",
    "admin": "keys and settings of the tenant",
}


def check_scopes(names: list[str]) -> list[str]:
    """The names, sorted and without repetition; InvalidRequest for one that does not exist."""
    unknown = sorted(set(names) - set(SCOPES))
    if unknown:
        raise InvalidRequest(f"unknown scope {unknown[0]!r}; there are {', '.join(SCOPES)}")
    return sorted(set(names))
