"""Images decoded no larger than needed, with the same result."""

import cv2
import numpy as np
import pytest

from service.encoder.contract import Encoder, Image
from service.encoder.encoders import Encoders
from service.encoder.fake_pictures import draw_people
from service.encoder.images.decode import decode_image
from service.encoder.images.downscale import SourceImage
from service.errors import UnreadableImage
from tests.encoder.images.test_decode import turned_file
from tests.encoder.test_real_encoders import overlap
from tests.support.encoders import LIMITS, cosine, people_photographs, photograph, portrait, similarity


def enlarged_photograph(image: Image, longer: int) -> Image:
    scale = longer / max(image.shape[:2])
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC))


@pytest.mark.parametrize(
    ("size", "side", "factor"),
    [
        ((1199, 900), 600, 1),
        ((1200, 900), 600, 2),
        ((2399, 10), 600, 2),
        ((2400, 301), 600, 4),
        ((3000, 2000), None, 1),
    ],
)
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_picture_is_halved_while_enough_is_left(
    size: tuple[int, int], side: int | None, factor: int, format: str
) -> None:
    width, height = size
    data = turned_file(np.zeros((height, width, 3), dtype=np.uint8), 1, format)
    reduced = SourceImage(data, LIMITS).reduced(side)
    assert reduced.factor == factor
    assert reduced.pixels.shape == (-(-height // factor), -(-width // factor), 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_halving_at_decoding_gives_what_averaging_gives_under_every_orientation(orientation: int) -> None:
    image = cv2.blur(enlarged_photograph(portrait(), 960), (5, 5))
    data = turned_file(image, orientation, "JPEG", quality=95)
    decoded, averaged = (
        SourceImage(data, LIMITS).reduced(400),
        SourceImage(decode_image(data, LIMITS), LIMITS).reduced(400),
    )
    assert decoded.factor == averaged.factor == 2
    assert decoded.pixels.shape == averaged.pixels.shape
    assert np.abs(decoded.pixels.astype(int) - averaged.pixels)[2:-2, 2:-2].mean() < 2


def test_the_whole_picture_is_there_too() -> None:
    data = draw_people(["Ada"], (2000, 1500))
    picture = SourceImage(data, LIMITS)
    assert picture.reduced(600).pixels.shape == (750, 1000, 3)
    assert picture.whole().shape == (1500, 2000, 3)


def test_a_large_file_cut_off_is_refused_at_every_size() -> None:
    data = draw_people(["Ada"], (2000, 1500))
    with pytest.raises(UnreadableImage):
        SourceImage(data[: len(data) // 2], LIMITS).reduced(500)


async def test_large_photographs_give_the_same_faces_when_they_are_halved(insightface_encoder: Encoder) -> None:
    """12 megapixels, as from phones: halved during decoding against halved after it."""
    encoders = Encoders([insightface_encoder], LIMITS, 200)
    for paths in people_photographs().values():
        large = enlarged_photograph(decode_image(paths[0].read_bytes(), LIMITS), 4000)
        file = turned_file(large, 1, "JPEG", quality=92)
        halved = await encoders.encode(encoders.default, file)
        averaged = await encoders.encode(encoders.default, decode_image(file, LIMITS))
        assert len(halved) == len(averaged) == 1
        assert overlap(halved[0].face.box, averaged[0].face.box) > 0.98
        assert cosine(halved[0].embedding, averaged[0].embedding) >= 0.99
    encoders._pipeline.close()


async def test_small_faces_of_a_large_photograph_are_cut_out_of_the_whole(insightface_encoder: Encoder) -> None:
    """A group of 2000 pixels on a canvas of 5000: halved twice its faces have 45 pixels, in the whole image 180."""
    group = photograph("groups", "obama_and_biden.jpg")
    canvas = np.full((3000, 5200, 3), 90, dtype=np.uint8)
    canvas[100 : 100 + group.shape[0], 200 : 200 + group.shape[1]] = group
    encoders = Encoders([insightface_encoder], LIMITS, 200)
    faces = await encoders.encode(encoders.default, turned_file(canvas, 1, "JPEG", quality=95))
    assert len(faces) == 3
    reference = insightface_encoder.embed(
        insightface_encoder.align(
            photograph("people", "barack_obama", "1.jpg"),
            insightface_encoder.detect(photograph("people", "barack_obama", "1.jpg")),
        )
    )[0]
    best = max(similarity(encoders.default, reference, face.embedding) for face in faces)
    assert best > encoders.default.threshold + 0.1
    for face in faces:
        assert face.face.box.left > 200
        assert face.face.quality_parts is not None
        assert face.face.quality_parts.size == 1.0
        assert face.face.box.bottom < 100 + group.shape[0]
    encoders._pipeline.close()
