"""Embeddings in a request body, as probes or as a reference: strict JSON. The gallery checks the values."""

from typing import Any

import msgspec
from fastapi import Request

from service.errors import InvalidRequest
from service.http.bodies import Vector, decode_vectors, read_json

MAXIMUM_PROBES = 1000


class _Probes(msgspec.Struct, forbid_unknown_fields=True):
    embedding: msgspec.Raw = msgspec.Raw(b"")  # parsed later, because it may be long
    embeddings: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET


class NewReference(msgspec.Struct, forbid_unknown_fields=True):
    """An embedding to store for a person, with its source given by the caller."""

    embedding: list[float]
    source: Any = None


async def read_probes(request: Request, limit_bytes: int) -> list[Vector]:
    """The probes of `{"embedding": [...]}` or `{"embeddings": [[...], ...]}`, from 1 to 1,000."""
    body = await read_json(request, _Probes, limit_bytes)
    has_one, vectors = bytes(body.embedding) != b"", body.embeddings
    if has_one == isinstance(vectors, list):
        raise InvalidRequest("send either embedding or embeddings")
    if not isinstance(vectors, list):
        return await decode_vectors([body.embedding], "embedding")
    if not 1 <= len(vectors) <= MAXIMUM_PROBES:
        raise InvalidRequest(f"embeddings: {len(vectors)}, 1 to {MAXIMUM_PROBES} are allowed")
    return await decode_vectors(vectors, "embeddings[{}]")
