"""What the legacy recognizer did with pictures: one embedding of a portrait, a label for every face of a picture."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from service.embedding import Embedding, EmbeddingSpace
from service.encoder.contract import DetectedFace, EncodedFace
from service.encoder.encoders import Encoders
from service.encoder.kinds import LEGACY_PADDED_CROP
from service.encoder.networks.padded_crop import quarter_picture
from service.errors import InvalidSettings
from service.gallery.galleries import Gallery
from service.gallery.votes import Votes, count_votes
from service.identity.legacy_vote import decide_by_votes, voting_similarity
from service.identity.spaces import resolve_space


@dataclass(frozen=True)
class LabeledFace:
    """A face and whose it is; None: nobody's of the gallery."""

    face: DetectedFace
    label: str | None


def legacy_space(encoders: Encoders, name: str | None) -> EmbeddingSpace:
    """The embedding space of the legacy dialect: the encoder that LEGACY_ENCODER names, else the default."""
    space = resolve_space(encoders, name)
    if space.is_external:
        raise InvalidSettings(f"LEGACY_ENCODER: {space.name} has no encoder on this server")
    return space


async def encode_portrait(encoders: Encoders, space: EmbeddingSpace, data: bytes) -> Embedding | None:
    """The embedding of the largest face of an image file, or None if it shows no face.

    The legacy recognizer shrank the images that it enrolled from, so encoders that embed as it did shrink them too.
    """
    if not LEGACY_PADDED_CROP.has_named(space.name):
        found = await encoders.encode(space, data, maximum_faces=1)
    else:
        picture = await encoders.decode(data)
        found = await encoders.encode(space, await asyncio.to_thread(quarter_picture, picture), maximum_faces=1)
    return found[0].embedding if found else None


async def label_faces(session: AsyncSession, gallery: Gallery, faces: Sequence[EncodedFace]) -> list[LabeledFace]:
    """Each face with the name that the policy `legacy-vote` decides for, in the given order."""
    gallery.check_identification()
    votes = await count_votes(session, gallery, [face.embedding for face in faces], voting_similarity(gallery.space))
    return [LabeledFace(face.face, winner_of(one)) for face, one in zip(faces, votes, strict=True)]


def winner_of(votes: Sequence[Votes]) -> str | None:
    """The name that the policy decides for, or None."""
    best = decide_by_votes(votes)
    return None if best is None else best.name
