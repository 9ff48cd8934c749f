"""The dlib encoder gives the results of dlib itself."""

import shutil
from pathlib import Path

import cv2
import dlib
import numpy as np
import pytest

from service.encoder.contract import DetectedFace, Encoder, Image
from service.encoder.dlib import _RECOGNITION_FILE, DlibEncoder, _weights_folder
from service.encoder.networks.dlib_resnet import dlib_onnx_model
from service.encoder.opening import load_encoder
from service.errors import InvalidModel
from service.settings import Settings
from tests.support.encoders import people_photographs, photograph, portrait


def test_embeddings_equal_those_of_dlib(dlib_encoder: Encoder) -> None:
    image = portrait()
    crops = dlib_encoder.align(image, dlib_encoder.detect(image))
    assert crops
    reference = dlib.face_recognition_model_v1(str(_weights_folder() / _RECOGNITION_FILE))
    for crop, embedding in zip(crops, dlib_encoder.embed(crops), strict=True):
        assert np.abs(np.array(reference.compute_face_descriptor(crop)) - embedding).max() < 1e-5


def test_the_threshold_is_at_least_as_strict_as_that_of_dlib(dlib_encoder: Encoder) -> None:
    assert dlib_encoder.space.metric == "euclidean"
    assert dlib_encoder.space.threshold >= 1 - 0.6


def test_a_file_that_is_not_the_recognition_network_is_refused() -> None:
    with pytest.raises(InvalidModel, match="5_face_landmarks"):
        dlib_onnx_model(_weights_folder() / "shape_predictor_5_face_landmarks.dat")
    with pytest.raises(InvalidModel, match=r"absent\.dat"):
        dlib_onnx_model(_weights_folder() / "absent.dat")


def tile(encoder: Encoder, image: Image) -> Image:
    """The largest face of an image, in a square twice as wide as the face."""
    box = encoder.detect(image)[0].box
    left, top = (round(edge - box.width / 2) for edge in (box.left, box.top))
    padded = np.pad(image, ((600, 600), (600, 600), (0, 0)), mode="edge")
    side = round(2 * box.width)
    return np.asarray(padded[top + 600 :, left + 600 :][:side, :side])


def pasted(tiles: list[tuple[Image, int, int, int]], width: int, height: int) -> Image:
    """A gray image with tiles, each with the width of its face, left and top."""
    image = np.full((height, width, 3), 120, dtype=np.uint8)
    for one, face_width, left, top in tiles:
        side = 2 * face_width
        image[top : top + side, left : left + side] = cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA)
    return image


def middles(faces: list[DetectedFace]) -> list[tuple[int, int]]:
    """Places of faces on a grid of 100 pixels, in order."""
    boxes = [face.box for face in faces]
    return sorted((int((b.left + b.right) // 200), int((b.top + b.bottom) // 200)) for b in boxes)


def test_a_single_tiny_face_is_found_beside_a_larger_one_if_the_setting_asks_for_it(settings: Settings) -> None:
    """Its width is a fortieth of the longer side: the first search gives no near miss."""
    image = portrait()
    found = {}
    for value in ("likely", "always"):
        encoder = load_encoder("dlib", settings.model_copy(update={"dlib_small_faces": value}))
        one = tile(encoder, image)
        found[value] = encoder.detect(pasted([(one, 400, 1000, 800), (one, 80, 20, 20)], 3200, 2400))
        encoder.close()
    assert [len(faces) for faces in found.values()] == [1, 2]
    assert found["likely"][0].box == found["always"][0].box


def test_a_crowd_is_found_also_behind_a_larger_face(dlib_encoder: Encoder) -> None:
    files = [next(file for file in files if file.stem == "1") for files in people_photographs().values()]
    tiles = [tile(dlib_encoder, photograph("people", file.parent.name, file.name)) for file in files]
    crowd = [(tiles[(number + 1) % 6], 100, 10 + number * 210, 10) for number in range(8)]
    alone = middles(dlib_encoder.detect(pasted(crowd, 3840, 2160)))
    assert len(alone) >= 6  # their faces have a thirty-eighth of the longer side
    for front in (100, 200, 400):
        nearest = (tiles[0], front, 3830 - 2 * front, 2155 - 2 * front)
        found = dlib_encoder.detect(pasted([*crowd, nearest], 3840, 2160))
        assert set(middles(found)) > set(alone)
        assert len(found) == len(alone) + 1
    hall = [(tiles[n % 6], 120, 20 + n % 8 * 450, 20 + n // 8 * 500) for n in range(40)]
    assert len(dlib_encoder.detect(pasted(hall, 4000, 3000))) == 40


@pytest.mark.parametrize(("width", "height"), [(1000, 800), (2400, 1600), (4000, 3000)])
def test_a_face_of_a_thirtieth_or_50_pixels_is_found_beside_a_larger_one(
    dlib_encoder: Encoder, width: int, height: int
) -> None:
    one = tile(dlib_encoder, portrait())
    nearest = (one, width // 8, width // 2, height // 4)
    small = (one, max(50, width // 30), 20, 20)
    alone = dlib_encoder.detect(pasted([nearest], width, height))
    both = dlib_encoder.detect(pasted([nearest, small], width, height))
    assert len(both) == 2
    assert both[0].box == alone[0].box  # and so its embedding


def test_weights_that_are_not_the_published_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models"
    shutil.copytree(_weights_folder(), folder, ignore=shutil.ignore_patterns("*68*", "mmod*"))
    monkeypatch.setattr("service.encoder.dlib._weights_folder", lambda: folder)
    assert DlibEncoder().space.dimension == 128
    with (folder / _RECOGNITION_FILE).open("ab") as file:
        file.write(b"x")
    with pytest.raises(InvalidModel, match=f"{_RECOGNITION_FILE} is not the published file"):
        DlibEncoder()
