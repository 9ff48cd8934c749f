"""Who the embeddings of tracks belong to, in galleries."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from service.embedding import Embedding
from service.gallery.search.search import Candidate
from service.identity.recognize import recognize_embeddings
from service.video.analysis import Recognize
from service.video.readings import Identity


def search_galleries_of(
    open_session: Callable[[], AsyncSession],
    galleries: str | Sequence[str],
    *,
    threshold: float | None = None,
    metadata: Mapping[str, Any] | None = None,
    mean_of: int = 1,
) -> Recognize:
    """A search with the options of `recognize_embeddings`. Each search opens a session and gives its connection back.

    The search raises NotFound if a gallery was deleted meanwhile.
    """

    async def recognize(probes: Sequence[Embedding]) -> list[Identity | None]:
        async with open_session() as session:
            found = await recognize_embeddings(
                session, galleries, probes, limit=1, threshold=threshold, metadata=metadata, mean_of=mean_of
            )
        return [_identity_of(face.decision.match) for face in found.faces]

    return recognize


def _identity_of(match: Candidate | None) -> Identity | None:
    return None if match is None else Identity(match.person_id, match.name, match.similarity)
