"""The shipped fake encoder detects drawn faces and tells names apart."""

import io

import numpy as np
import pytest
from PIL import Image as Pillow

from service.embedding import Embedding
from service.encoder.fake import FAKE_SPACE, FakeEncoder
from service.encoder.fake_pictures import draw_nobody, draw_people, people_pixels
from service.encoder.images.decode import decode_image
from tests.encoder.images.test_decode import turned_file
from tests.support.encoders import LIMITS, cosine


def embeddings(data: bytes) -> list[Embedding]:
    """Return the embeddings of the faces in an image file, from left to right."""
    encoder = FakeEncoder()
    image = decode_image(data, LIMITS)
    faces = sorted(encoder.detect(image), key=lambda face: face.box.left)
    return encoder.embed(encoder.align(image, faces))


def altered(data: bytes, change: str) -> bytes:
    image = Pillow.open(io.BytesIO(data))
    changed = {
        "a third of the size": lambda: image.resize((image.width // 3, image.height // 3)),
        "twice the size": lambda: image.resize((image.width * 2, image.height * 2)),
        "darker": lambda: image.point(lambda value: value // 3),
        "mirrored": lambda: image.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT),
    }[change]()
    file = io.BytesIO()
    changed.save(file, "JPEG", quality=60)
    return file.getvalue()


def test_each_drawn_name_is_found_from_left_to_right() -> None:
    names = ["Ada", "Grace Hopper", "李明", "a/b 🙂"]
    alone = [embeddings(draw_people([name]))[0] for name in names]
    together = embeddings(draw_people(names, (1000, 300), variation=4))
    assert len(together) == len(names)
    for one, other in zip(alone, together, strict=True):
        assert cosine(one, other) > 0.9


def test_faces_of_equal_size_are_ordered_from_left_to_right() -> None:
    found = FakeEncoder().detect(people_pixels(["a", "b", "c", "d"]))
    assert [face.box.left for face in found] == sorted(face.box.left for face in found)


def test_an_image_without_drawn_faces_has_none() -> None:
    assert embeddings(draw_nobody()) == []


def test_embeddings_of_different_names_are_unrelated() -> None:
    found = np.stack([embeddings(draw_people([f"person {number}"]))[0] for number in range(60)])
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    others = (found @ found.T)[np.triu_indices(60, 1)]
    assert abs(others.mean()) < 0.05
    assert others.max() < FAKE_SPACE.threshold - 0.05


@pytest.mark.parametrize("change", ["a third of the size", "twice the size", "darker", "mirrored"])
def test_the_same_name_is_recognized_in_an_altered_image(change: str) -> None:
    data = draw_people(["Ada"])
    (found,) = embeddings(altered(data, change))
    assert cosine(embeddings(data)[0], found) > 0.9


def test_a_variation_is_another_photograph_of_the_same_person() -> None:
    first, second = draw_people(["Ada"]), draw_people(["Ada"], variation=1)
    assert first != second
    assert 0.9 < cosine(embeddings(first)[0], embeddings(second)[0]) < 0.99999


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_gives_the_same_embedding(orientation: int) -> None:
    upright = people_pixels(["Ada"])
    (found,) = embeddings(turned_file(upright, orientation, "JPEG", quality=90))
    assert cosine(embeddings(turned_file(upright, 1))[0], found) > 0.99


def test_drawing_refuses_faces_that_are_too_small_to_be_found() -> None:
    with pytest.raises(ValueError, match="larger picture"):
        draw_people(["Ada"], (40, 40))


def test_an_embedding_has_the_dimension_of_its_space() -> None:
    (found,) = embeddings(draw_people(["Ada"]))
    assert found.shape == (FAKE_SPACE.dimension,)
    assert found.dtype == np.float32
