"""Scopes of a key. There is no order among scopes, and a key without a scope cannot use it."""

from service.errors import InvalidRequest

SCOPES = {
    "recognize": "identification (1:N): who is in an image",
    "verify": "verification (1:1): does an image show a person, and comparison of two images",
    "enroll": "create galleries and people, add faces, import",
    "read": "list and read galleries, people and jobs",
    "export": "read embeddings in bulk",
    "erase": "delete faces, people and galleries",
    "admin": "keys and settings of the tenant",
}


def check_scopes(names: list[str]) -> list[str]:
    """The names, sorted and without repetition. Raises InvalidRequest for an unknown scope."""
    unknown = sorted(set(names) - set(SCOPES))
    if unknown:
        raise InvalidRequest(f"unknown scope {unknown[0]!r}; the scopes are {', '.join(SCOPES)}")
    return sorted(set(names))
