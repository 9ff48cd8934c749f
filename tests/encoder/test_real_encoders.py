"""Both encoders with real weights on photographs: they tell people apart, and harmless changes keep the results."""

import io
import itertools

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from service.embedding import Embedding
from service.encoder.contract import Box, DetectedFace, Encoder, Image
from service.encoder.images.decode import decode_image
from tests.encoder.images.test_decode import turned_file
from tests.support.encoders import LIMITS, cosine, people_photographs, photograph, portrait, similarity


def largest(encoder: Encoder, image: Image) -> tuple[DetectedFace, Embedding]:
    """Return the largest face and its embedding."""
    faces = encoder.detect(image)
    assert faces, "no face found"
    return faces[0], encoder.embed(encoder.align(image, faces[:1]))[0]


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    shared = max(0.0, width) * max(0.0, height)
    return shared / (one.area + other.area - shared)


def test_every_person_is_recognized_and_no_stranger_is_accepted(real_encoder: Encoder) -> None:
    """The first photograph of each person is enrolled, the others are probes, and each person is once a stranger."""
    space = real_encoder.space
    found = {
        name: [largest(real_encoder, decode_image(path.read_bytes(), LIMITS))[1] for path in paths]
        for name, paths in people_photographs().items()
    }
    for name, (_, *probes) in found.items():
        for probe in probes:
            scores = {other: similarity(space, probe, references[0]) for other, references in found.items()}
            assert max(scores, key=lambda other: scores[other]) == name
            assert scores[name] >= space.threshold
    for one, other in itertools.permutations(found, 2):
        for first, second in itertools.product(found[one], found[other]):
            assert similarity(space, first, second) < space.threshold - 0.1


def test_both_people_of_a_group_are_found_and_told_apart(real_encoder: Encoder) -> None:
    group = photograph("groups", "two_people.jpg")
    faces = sorted(real_encoder.detect(group), key=lambda face: face.box.left)
    assert len(faces) == 2
    areas = [face.box.area for face in real_encoder.detect(group)]
    assert areas == sorted(areas, reverse=True)
    obama, biden = real_encoder.embed(real_encoder.align(group, faces))
    for person, mate, other in (("barack_obama", obama, biden), ("joe_biden", biden, obama)):
        _, reference = largest(real_encoder, photograph("people", person, "2.jpg"))
        assert similarity(real_encoder.space, reference, mate) >= real_encoder.space.threshold
        assert similarity(real_encoder.space, reference, other) < real_encoder.space.threshold


def test_faces_have_a_score_and_landmarks_inside_their_box(real_encoder: Encoder) -> None:
    faces = real_encoder.detect(portrait())
    assert faces
    for face in faces:
        assert 0 < face.detection_score <= 1
        assert 0 <= face.quality <= 1
        left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
        assert face.box.left <= nose[0] <= face.box.right


def test_a_photograph_at_half_its_size_shows_the_same_person(real_encoder: Encoder) -> None:
    image = portrait()
    _, small = largest(real_encoder, np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)))
    _, large = largest(real_encoder, image)
    assert similarity(real_encoder.space, small, large) >= real_encoder.space.threshold


def test_a_face_that_fills_the_image_is_found(real_encoder: Encoder) -> None:
    image = portrait()
    face, embedding = largest(real_encoder, image)
    box = face.box
    crop = np.ascontiguousarray(image[int(box.top) : int(box.bottom), int(box.left) : int(box.right)])
    found, close = largest(real_encoder, crop)
    assert overlap(found.box, Box(0, 0, crop.shape[1], crop.shape[0])) > 0.6
    assert similarity(real_encoder.space, embedding, close) >= real_encoder.space.threshold


def test_the_eight_orientations_give_the_same_box_and_embedding(real_encoder: Encoder) -> None:
    upright = portrait()
    face, embedding = largest(real_encoder, upright)
    for orientation in range(1, 9):
        turned = decode_image(turned_file(upright, orientation, "JPEG", quality=95), LIMITS)
        found, again = largest(real_encoder, turned)
        assert overlap(face.box, found.box) > 0.95, orientation
        assert cosine(embedding, again) >= 0.99, orientation


@pytest.mark.parametrize("mode", ["RGBA", "CMYK", "L", "P"])
def test_an_image_in_another_color_mode_shows_the_same_person(real_encoder: Encoder, mode: str) -> None:
    upright = portrait()
    _, embedding = largest(real_encoder, upright)
    file = io.BytesIO()
    Pillow.fromarray(upright).convert(mode).save(file, "JPEG" if mode == "CMYK" else "PNG", quality=95)
    _, found = largest(real_encoder, decode_image(file.getvalue(), LIMITS))
    assert similarity(real_encoder.space, embedding, found) >= real_encoder.space.threshold + 0.1


def test_a_batch_gives_the_embeddings_of_single_faces(real_encoder: Encoder) -> None:
    image = portrait()
    images = [image, np.ascontiguousarray(image[:, ::-1]), (image * 0.6).astype(np.uint8)]
    crops = [crop for image in images for crop in real_encoder.align(image, real_encoder.detect(image))]
    for crop, batched in zip(crops, real_encoder.embed(crops), strict=True):
        (alone,) = real_encoder.embed([crop])
        assert cosine(alone, batched) >= 0.9999
        assert not np.allclose(batched, 0)


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (64, 64), (480, 640)])
def test_an_image_without_faces_gives_none(real_encoder: Encoder, shape: tuple[int, int]) -> None:
    assert real_encoder.detect(np.full((*shape, 3), 127, dtype=np.uint8)) == []
    noise = np.random.default_rng(1).integers(0, 255, (*shape, 3), dtype=np.uint8)
    assert real_encoder.detect(cv2.blur(noise, (3, 3))) == []


def test_an_empty_list_of_faces_gives_no_crops_and_no_embeddings(real_encoder: Encoder) -> None:
    assert real_encoder.align(portrait(), []) == []
    assert real_encoder.embed([]) == []
