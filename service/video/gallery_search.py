"""Who the embeddings of tracks belong to, in galleries."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from service.embedding import Embedding
from service.gallery.galleries import Gallery
from service.gallery.search.search import Candidate, search
from service.gallery.votes import count_votes
from service.identity.legacy_recognition import winner_of
from service.identity.legacy_vote import voting_similarity
from service.identity.recognize import recognize_embeddings
from service.video.analysis import Recognize
from service.video.readings import Identity

_NEAREST = 20
"""Candidates among which the winner of a vote is looked up."""


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


def vote_in(open_session: Callable[[], AsyncSession], gallery: Gallery) -> Recognize:
    """The decision policy `legacy-vote` in one gallery. Each search opens a session and gives its connection back.

    The similarity is that of the person's most similar reference.
    """

    async def recognize(probes: Sequence[Embedding]) -> list[Identity | None]:
        async with open_session() as session:
            votes = await count_votes(session, gallery, probes, voting_similarity(gallery.space))
            nearest = await search(session, gallery, probes, _NEAREST)
        return [_winner(winner_of(one), near) for one, near in zip(votes, nearest, strict=True)]

    return recognize


def _winner(name: str | None, nearest: Sequence[Candidate]) -> Identity | None:
    if name is None:
        return None
    return Identity(None, name, next((one.similarity for one in nearest if one.name == name), 0.0))


def _identity_of(match: Candidate | None) -> Identity | None:
    return None if match is None else Identity(match.person_id, match.name, match.similarity)
