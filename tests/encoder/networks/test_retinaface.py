"""The RetinaFace detector gives the faces of an independent decoder, and finds the faces of photographs."""

from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

from benchmarks.parity.mxnet_side import decoding
from service.encoder.contract import Image
from service.encoder.networks.detections import Detections, faces_of
from service.encoder.networks.retinaface import LARGEST_PIXELS, RetinafaceDetector
from service.encoder.runtime.sessions import PROCESSOR, open_session
from service.errors import InvalidModel
from service.models.mxnet.conversion import convert_folder
from service.models.mxnet.manifest import read_manifest
from tests.models.mxnet import families
from tests.support.data import data_path
from tests.support.encoders import photograph
from tests.support.legacy_models import DETECTOR, LegacyPair, draw_boards


def open_detector(folder: Path) -> RetinafaceDetector:
    session = open_session(folder / "model.onnx", PROCESSOR)
    return RetinafaceDetector(session, read_manifest(folder))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> RetinafaceDetector:
    """mnet025 with its published weights."""
    source = data_path("legacy-models", "retinaface_mnet025")
    return open_detector(convert_folder(source, tmp_path_factory.mktemp("converted")).converted[0].folder)


@pytest.fixture(scope="module", params=["retinaface_mnet025_v1", "retinaface_mnet025_v2"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small detector of random weights, with a high score at about half of its anchors."""
    folder = tmp_path_factory.mktemp("made")
    network, outputs = families.retinaface_mnet(8)
    return convert_folder(network.save(folder / request.param, outputs), folder / "out").converted[0].folder


@pytest.mark.parametrize(("height", "width"), [(64, 96), (33, 47), (1, 1), (7, 200)])
def test_detections_equal_those_of_an_independent_decoder(made: Path, height: int, width: int) -> None:
    image = np.random.default_rng(3).integers(0, 255, (height, width, 3), dtype=np.uint8)
    pixels = image.transpose(2, 0, 1)[None].astype(np.float32)
    maps = onnxruntime.InferenceSession(made / "model.onnx").run(None, {"data": pixels})
    scale = 0.2 if made.name.endswith("v2") else 1.0
    boxes, scores, landmarks = decoding.decode(maps, scale)
    found = open_detector(made).detect(image)
    assert len(found.scores) == len(scores)
    assert np.allclose(found.scores, scores, atol=1e-6)
    assert np.allclose(found.boxes, boxes, rtol=1e-4, atol=1e-2)
    assert np.allclose(found.landmarks, landmarks, rtol=1e-4, atol=1e-2)


def test_the_made_detector_finds_enough_faces_to_compare(made: Path) -> None:
    image = np.random.default_rng(3).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    found = open_detector(made).detect(image)
    assert len(found.scores) >= 5
    assert (np.diff(found.scores) <= 0).all()
    assert found.scores.min() >= 0.5


@pytest.mark.parametrize(
    ("parts", "faces"),
    [
        (("people", "barack_obama", "1.jpg"), 1),
        (("people", "barack_obama", "5_small.jpg"), 1),
        (("groups", "two_people.jpg"), 2),
        (("groups", "kit_with_rose.jpg"), 2),
        (("hard", "obama_partial_face.jpg"), 1),
    ],
)
def test_faces_of_photographs_are_found(published: RetinafaceDetector, parts: tuple[str, ...], faces: int) -> None:
    image = photograph(*parts)
    found = faces_of(image, published.detect(image))
    assert len(found) == faces
    for face in found:
        left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
        assert face.box.left <= left_eye[0] < right_eye[0] <= face.box.right
        assert left_eye[1] < nose[1] < left_mouth[1]
        assert left_mouth[0] < right_mouth[0]


def test_an_image_without_a_face_has_no_detections(made_legacy_pair: LegacyPair) -> None:
    found = open_detector(made_legacy_pair.folder / DETECTOR).detect(np.full((200, 300, 3), 127, dtype=np.uint8))
    assert (found.boxes.shape, found.scores.shape, found.landmarks.shape) == ((0, 4), (0,), (0, 5, 2))


def _enlarged(image: Image, pixels: int) -> tuple[Image, float]:
    scale = (pixels / (image.shape[0] * image.shape[1])) ** 0.5
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)), scale


def _same_place(one: Detections, other: Detections) -> float:
    return float(decoding.shared(one.boxes[0], other.boxes[0]))


def test_a_very_large_image_is_searched_at_four_megapixels(made_legacy_pair: LegacyPair) -> None:
    detector = open_detector(made_legacy_pair.folder / DETECTOR)
    image = np.full((1600, 2500, 3), 90, dtype=np.uint8)
    image[320:704, 640:1344] = draw_boards({"Ada": 0, "Grace": 11})
    assert image.shape[0] * image.shape[1] == LARGEST_PIXELS
    found = detector.detect(np.asarray(cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)))
    expected = detector.detect(image)
    assert len(expected.scores) == 2
    assert np.allclose(found.boxes, expected.boxes * 2)
    assert np.allclose(found.landmarks, expected.landmarks * 2)


def test_a_very_large_photograph_is_searched_at_a_reduced_size(published: RetinafaceDetector) -> None:
    """Its faces have the same places as in the large image; at full size they would be too large for the detector."""
    photo = photograph("groups", "two_people.jpg")
    large, scale = _enlarged(photo, 4 * LARGEST_PIXELS)
    found, expected = published.detect(large), published.detect(photo)
    assert len(found.scores) == len(expected.scores) == 2
    by_place = [part.only(np.argsort(part.boxes[:, 0])) for part in (found, expected)]
    enlarged = Detections(by_place[1].boxes * scale, by_place[1].scores, by_place[1].landmarks * scale)
    assert _same_place(by_place[0], enlarged) > 0.8
    assert np.abs(by_place[0].landmarks - enlarged.landmarks).max() < 0.05 * large.shape[0]


def test_a_recognition_model_is_refused_as_a_detector(tmp_path: Path) -> None:
    network, outputs = families.mobilefacenet(8, 16)
    folder = convert_folder(network.save(tmp_path / "model", outputs), tmp_path / "out").converted[0].folder
    with pytest.raises(InvalidModel, match="model is a network for recognition, not a detector"):
        open_detector(folder)
