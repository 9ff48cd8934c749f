"""Votes: which references count, and which requests are refused."""

import numpy as np
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from service.errors import InvalidRequest, ServiceError
from service.gallery.bulk_writing import ReferenceRow, add_references
from service.gallery.galleries import create_gallery
from service.gallery.votes import count_votes
from tests.support.galleries import space_of

PROBE = np.eye(8, dtype=np.float32)[0]


async def test_a_reference_exactly_at_the_asked_similarity_does_not_vote(session: AsyncSession) -> None:
    """Its half-precision similarity is not certain, so the exact values decide; a person without a vote is left out."""
    gallery = await create_gallery(session, "staff", space_of(8))
    await add_references(session, gallery, [ReferenceRow("Ada", None, np.eye(8)[1])])
    assert await count_votes(session, gallery, [PROBE], 0.0) == [[]]
    ((votes,),) = await count_votes(session, gallery, [PROBE], -1e-6)
    assert (votes.name, votes.count) == ("Ada", 1)


async def test_votes_need_a_gallery_that_allows_identification(session: AsyncSession) -> None:
    gallery = await create_gallery(session, "staff", space_of(8), verification_only=True)
    with pytest.raises(ServiceError, match="verification"):
        await count_votes(session, gallery, [PROBE], 0.5)


async def test_too_many_probes_are_refused(session: AsyncSession) -> None:
    gallery = await create_gallery(session, "staff", space_of(8))
    with pytest.raises(InvalidRequest, match="1001"):
        await count_votes(session, gallery, [PROBE] * 1001, 0.5)
