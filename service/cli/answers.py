"""The JSON of the command line, in the shapes of `/v1` (held equal by tests/cli/test_answers.py)."""

from service.encoder.contract import Box, DetectedFace, EncodedFace
from service.gallery.faces import Face
from service.gallery.galleries import Gallery
from service.gallery.people import Person
from service.gallery.search import Candidate
from service.identity.recognize import RecognizedFace
from service.identity.verify import Verification

Answer = dict[str, object]


def gallery_answer(gallery: Gallery) -> Answer:
    """A gallery."""
    return {
        "name": gallery.name,
        "embedding_space": gallery.space.name,
        "dimension": gallery.space.dimension,
        "threshold": gallery.threshold,
        "created_at": gallery.created_at,
    }


def person_answer(person: Person) -> Answer:
    """A person."""
    return {
        "id": person.id,
        "name": person.name,
        "external_id": person.external_id,
        "metadata": person.metadata,
        "faces": person.faces,
        "created_at": person.created_at,
    }


def face_answer(face: Face) -> Answer:
    """An enrolled face, without its embedding."""
    return {"id": face.id, "source": face.source, "created_at": face.created_at}


def box_answer(box: Box) -> Answer:
    """A face's rectangle in pixels."""
    return {"left": box.left, "top": box.top, "right": box.right, "bottom": box.bottom}


def detected_answer(face: DetectedFace) -> Answer:
    """A face found in a picture."""
    return {
        "box": box_answer(face.box),
        "detection_score": face.detection_score,
        "quality": face.quality,
        "landmarks": [{"x": x, "y": y} for x, y in face.landmarks],
    }


def encoded_answer(encoded: EncodedFace) -> Answer:
    """A face found in a picture, and its embedding."""
    return detected_answer(encoded.face) | {"embedding": encoded.embedding.tolist()}


def recognized_answer(recognized: RecognizedFace) -> Answer:
    """A probe's decision and candidates; box and scores where it came from a picture."""
    decision = recognized.decision
    match = decision.match
    place = {} if recognized.face is None else detected_answer(recognized.face)
    return place | {
        "decision": decision.outcome,
        "match": None if match is None else {"person": _named(match), "similarity": match.similarity},
        "candidates": [
            {"person": _named(candidate), "similarity": candidate.similarity, "face": candidate.face_id}
            for candidate in decision.candidates
        ],
    }


def verification_answer(verification: Verification) -> Answer:
    """The answer to a claim of identity."""
    return {
        "verified": verification.verified,
        "similarity": verification.similarity,
        "threshold": verification.threshold,
    }


def _named(candidate: Candidate) -> Answer:
    return {"id": candidate.person_id, "name": candidate.name}
