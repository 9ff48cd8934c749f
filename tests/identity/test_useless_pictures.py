"""Useless photographs bring about no match: dark, foggy, blurred, moved and tiny faces of strangers, and turned ones.

Recognition models give useless faces nearly the same embedding, so they match each other if nothing refuses them.
"""

import functools
import itertools
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from service.encoder.contract import DetectedFace, Encoder, Image
from service.encoder.images.decode import decode_image
from service.identity.review import Review
from tests.support.encoders import LIMITS, people_photographs, similarity

BASIC = Review("basic", "basic")


@functools.cache
def people() -> dict[str, list[Image]]:
    """Person -> photographs, with faces of about 160 pixels."""
    return {
        name: [shrunk(decode_image(path.read_bytes(), LIMITS)) for path in paths]
        for name, paths in people_photographs().items()
    }


def shrunk(image: Image, longest: int = 600) -> Image:
    scale = min(1.0, longest / max(image.shape[:2]))
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def blurred(image: Image) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), image.shape[1] / 40))


def moved(image: Image) -> Image:
    return np.asarray(cv2.blur(image, (max(1, image.shape[1] // 10), 1)))


def dark(image: Image) -> Image:
    return image // 20


def foggy(image: Image) -> Image:
    return (128 + (image.astype(np.int16) - 128) // 20).astype(np.uint8)


def tiny(image: Image) -> Image:
    """Faces of about 10 pixels, in a frame that lets the detectors find some."""
    frame = np.full((320, 320, 3), 120, dtype=np.uint8)
    small = shrunk(image, 32)
    frame[100 : 100 + small.shape[0], 100 : 100 + small.shape[1]] = small
    return frame


def largest(encoder: Encoder, image: Image) -> DetectedFace | None:
    return next(iter(encoder.detect(image)), None)


@pytest.mark.parametrize("spoil", [blurred, moved, dark, foggy, tiny])
def test_useless_faces_of_strangers_do_not_match(real_encoder: Encoder, spoil: Callable[[Image], Image]) -> None:
    images = {name: spoil(pictures[0]) for name, pictures in people().items()}
    faces = {name: face for name, image in images.items() if (face := largest(real_encoder, image))}
    accepted = {
        name: real_encoder.embed(real_encoder.align(images[name], [face]))[0]
        for name, face in faces.items()
        if not BASIC.of_reference(face, real_encoder.space.name)
    }
    for one, other in itertools.combinations(accepted, 2):
        assert similarity(real_encoder.space, accepted[one], accepted[other]) < real_encoder.space.threshold


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_people_in_turned_pictures_are_recognized_or_not_found(real_encoder: Encoder, quarters: int) -> None:
    space = real_encoder.space
    references, turned = {}, []
    for name, (first, *others) in people().items():
        references[name] = real_encoder.embed(real_encoder.align(first, real_encoder.detect(first)[:1]))[0]
        turned += [(name, np.ascontiguousarray(np.rot90(image, quarters))) for image in [first, *others]]
    found = 0
    for name, image in turned:
        faces = real_encoder.detect(image)
        if not faces or BASIC.of_probe(faces[0], space.name):
            continue
        (embedding,) = real_encoder.embed(real_encoder.align(image, faces[:1]))
        matches = {
            other
            for other, reference in references.items()
            if similarity(space, embedding, reference) >= space.threshold
        }
        assert matches <= {name}
        found += matches == {name}
    assert found >= (0 if space.name == "dlib" else len(turned) - 1)


def test_every_ordinary_photograph_passes(real_encoder: Encoder) -> None:
    for image in itertools.chain.from_iterable(people().values()):
        face = largest(real_encoder, image)
        assert face is not None
        assert BASIC.of_reference(face, real_encoder.space.name) is None
