"""Downscaling: images are decoded no larger than detection needs, with the same results."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from service.encoder.contract import Encoder, Image
from service.encoder.encoders import Encoders
from service.encoder.fake_pictures import draw_people
from service.encoder.images.decode import decode_image
from service.encoder.images.downscale import SourceImage
from service.encoder.insightface import InsightfaceEncoder
from service.errors import UnreadableImage
from service.models.packs import read_pack
from tests.encoder.images.test_decode import turned_file
from tests.encoder.test_real_encoders import overlap
from tests.support.encoders import LIMITS, cosine, people_photographs, photograph, portrait, similarity
from tests.support.packs import draw_spots, save_pack, two_people


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
def test_an_image_is_halved_while_its_longer_side_keeps_enough_pixels(
    size: tuple[int, int], side: int | None, factor: int, format: str
) -> None:
    width, height = size
    data = turned_file(np.zeros((height, width, 3), dtype=np.uint8), 1, format)
    reduced = SourceImage(data, LIMITS).reduced(side)
    assert reduced.factor == factor
    assert reduced.pixels.shape == (-(-height // factor), -(-width // factor), 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_halved_during_decoding_equals_the_averaged_image_in_every_orientation(orientation: int) -> None:
    image = cv2.blur(enlarged_photograph(portrait(), 960), (5, 5))
    data = turned_file(image, orientation, "JPEG", quality=95)
    decoded, averaged = (
        SourceImage(data, LIMITS).reduced(400),
        SourceImage(decode_image(data, LIMITS), LIMITS).reduced(400),
    )
    assert decoded.factor == averaged.factor == 2
    assert decoded.pixels.shape == averaged.pixels.shape
    assert np.abs(decoded.pixels.astype(int) - averaged.pixels)[2:-2, 2:-2].mean() < 2


def test_the_whole_image_can_be_decoded_after_the_reduced_one() -> None:
    data = draw_people(["Ada"], (2000, 1500))
    image = SourceImage(data, LIMITS)
    assert image.reduced(600).pixels.shape == (750, 1000, 3)
    assert image.whole().shape == (1500, 2000, 3)


def test_a_truncated_large_file_is_refused_at_a_reduced_size() -> None:
    data = draw_people(["Ada"], (2000, 1500))
    with pytest.raises(UnreadableImage):
        SourceImage(data[: len(data) // 2], LIMITS).reduced(500)


async def check_halving(encoder: Encoder, large: Image, faces: int) -> None:
    """Halving during decoding gives the faces that halving after decoding gives."""
    encoders = Encoders([encoder], LIMITS, 200)
    file = turned_file(large, 1, "JPEG", quality=92)
    halved = await encoders.encode(encoders.default, file)
    averaged = await encoders.encode(encoders.default, decode_image(file, LIMITS))
    encoders._pipeline.close()
    assert len(halved) == len(averaged) == faces
    for one, other in zip(halved, averaged, strict=True):
        assert overlap(one.face.box, other.face.box) > 0.98
        assert cosine(one.embedding, other.embedding) >= 0.99


async def test_a_large_image_gives_the_same_faces_when_it_is_halved(made_encoder: Encoder) -> None:
    """12 megapixels, as from phones."""
    await check_halving(made_encoder, enlarged_photograph(two_people(), 4000), 2)


async def test_large_photographs_give_the_same_faces_when_they_are_halved(insightface_encoder: Encoder) -> None:
    for paths in people_photographs().values():
        large = enlarged_photograph(decode_image(paths[0].read_bytes(), LIMITS), 4000)
        await check_halving(insightface_encoder, large, 1)


async def test_small_faces_of_a_large_image_are_cut_out_of_the_whole_image(tmp_path: Path) -> None:
    """Faces of 160 pixels in the whole image have 20 in the image that is searched."""
    encoder = InsightfaceEncoder("insightface:small", read_pack(save_pack(tmp_path, board_pixels=21)))
    group = enlarged_photograph(draw_spots({"Ada": (160, 192), "Grace": (448, 256)}), 1280).astype(int)
    grain = np.random.default_rng(1).integers(-60, 61, (*group.shape[:2], 1))  # the searched image does not show it
    canvas = np.full((3000, 5120, 3), 90, dtype=np.uint8)
    # Each spot is in the center of a cell of 8 pixels when the longer side of the canvas has 640.
    canvas[156 : 156 + 960, 220 : 220 + 1280] = (group + grain).clip(0, 255)
    encoders = Encoders([encoder], LIMITS, 200)
    file = turned_file(canvas, 1, "JPEG", quality=95)
    faces = await encoders.encode(encoders.default, file)
    encoders._pipeline.close()
    assert len(faces) == 2
    for face in faces:
        (expected,) = encoder.embed(encoder.align(decode_image(file, LIMITS), [face.face]))
        assert cosine(face.embedding, expected) > 0.999
        assert face.face.box.right - face.face.box.left == pytest.approx(160, abs=1)
        assert face.face.quality_parts is not None
        assert face.face.quality_parts.size == 1.0


async def test_small_faces_of_a_large_photograph_are_cut_out_of_the_whole_image(insightface_encoder: Encoder) -> None:
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
