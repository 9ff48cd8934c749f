"""The insightface encoder gives the results of insightface.app.FaceAnalysis, and refuses wrong packs."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from service.embedding import Embedding
from service.encoder.contract import Encoder, Image
from service.encoder.insightface import InsightfaceEncoder
from service.encoder.runtime.processors import RunCounter
from service.encoder.runtime.sessions import Device
from service.errors import InvalidModel, InvalidSettings
from service.models.packs import read_pack
from tests.encoder.test_real_encoders import overlap
from tests.support.encoders import cosine, pack_folder, photograph
from tests.support.packs import DETECTOR, RECOGNIZER, draw_spots, two_people


def face_analysis(folder: Path) -> Any:
    """Return insightface's own pipeline on a pack."""
    from insightface.app import FaceAnalysis

    analysis = FaceAnalysis(name=str(folder), providers=["CPUExecutionProvider"])
    analysis.prepare(ctx_id=-1)
    return analysis


@pytest.fixture(scope="module")
def real_face_analysis() -> Any:
    """insightface's own pipeline on the real pack."""
    return face_analysis(pack_folder())


@pytest.mark.parametrize(
    "image", ["groups/two_people.jpg", "groups/obama_and_biden.jpg", "people/alex_lacamoire/2.png"]
)
def test_boxes_and_embeddings_equal_those_of_face_analysis(
    real_face_analysis: Any, insightface_encoder: Encoder, image: str
) -> None:
    assert_same_faces(real_face_analysis, insightface_encoder, photograph(*image.split("/")))


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (1500, 900), (200, 300)])
def test_boxes_and_embeddings_of_the_made_pack_equal_those_of_face_analysis(
    made_pack: Path, made_encoder: Encoder, size: tuple[int, int]
) -> None:
    scale = max(size) / 640
    image = np.asarray(cv2.resize(two_people(), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    canvas = np.full((max(size[1], image.shape[0]), max(size[0], image.shape[1]), 3), 127, dtype=np.uint8)
    canvas[: image.shape[0], : image.shape[1]] = image
    assert_same_faces(face_analysis(made_pack), made_encoder, canvas)


def assert_same_faces(analysis: Any, encoder: Encoder, image: Image) -> None:
    """Assert that the encoder returns the boxes, landmarks, scores and embeddings of insightface."""
    theirs = analysis.get(np.ascontiguousarray(image[:, :, ::-1]))
    ours = encoder.detect(image)
    assert len(ours) == len(theirs) > 0
    embeddings = encoder.embed(encoder.align(image, ours))
    for face, embedding in zip(ours, embeddings, strict=True):
        same = max(theirs, key=lambda other: -np.abs(other.bbox[:2] - (face.box.left, face.box.top)).sum())
        box = (face.box.left, face.box.top, face.box.right, face.box.bottom)
        assert np.abs(np.clip(same.bbox, 0, None) - box).max() < 1.0
        assert np.abs(same.kps - np.array(face.landmarks)).max() < 1.0
        assert abs(same.det_score - face.detection_score) < 0.01
        assert cosine(same.embedding, embedding) >= 0.999


@pytest.mark.parametrize("name", ["alex_lacamoire/1.jpg", "lin_manuel_miranda/1.png"])
def test_a_face_upside_down_is_found_also_beside_an_upright_one(insightface_encoder: Encoder, name: str) -> None:
    upright, turned = (resized_to(photograph("people", *file.split("/")), 500) for file in ("barack_obama/1.jpg", name))
    (alone,) = insightface_encoder.detect(upright)
    both = insightface_encoder.detect(np.hstack([upright, turned[::-1, ::-1]]))
    assert sorted(face.box.left > upright.shape[1] for face in both) == [False, True]
    assert any(overlap(face.box, alone.box) > 0.8 for face in both)


def resized_to(image: Image, height: int) -> Image:
    return np.asarray(cv2.resize(image, (round(image.shape[1] * height / image.shape[0]), height)))


def test_the_smaller_detector_with_one_input_size_finds_the_same_faces(insightface_encoder: Encoder) -> None:
    small = InsightfaceEncoder("small", read_pack(pack_folder().parent / "scrfd500m-mobilefacenet128"))
    image = photograph("groups", "two_people.jpg")
    for one, other in zip(small.detect(image), insightface_encoder.detect(image), strict=True):
        assert overlap(one.box, other.box) > 0.7
    assert small.space.digest != insightface_encoder.space.digest
    assert small.space.dimension == insightface_encoder.space.dimension == 128


def test_the_digest_depends_on_the_files_and_not_on_their_path(
    made_pack: Path, made_encoder: Encoder, tmp_path: Path
) -> None:
    moved = shutil.copytree(made_pack, tmp_path / "moved")
    assert InsightfaceEncoder("moved", read_pack(moved)).space.digest == made_encoder.space.digest
    (moved / RECOGNIZER).rename(moved / "renamed.onnx")
    assert InsightfaceEncoder("renamed", read_pack(moved)).space.digest == made_encoder.space.digest


def test_people_are_recognized_in_another_image_and_position(made_encoder: Encoder) -> None:
    first, second = two_people(), draw_spots({"Grace": (150, 150), "Linus": (400, 300), "Ada": (500, 120)})
    (ada, grace) = embeddings_from_left(made_encoder, first)
    threshold = made_encoder.space.threshold
    for embedding, name in zip(embeddings_from_left(made_encoder, second), ("Grace", "Linus", "Ada"), strict=True):
        assert (cosine(ada, embedding) >= threshold) == (name == "Ada")
        assert (cosine(grace, embedding) >= threshold) == (name == "Grace")


def embeddings_from_left(encoder: Encoder, image: Image) -> list[Embedding]:
    faces = sorted(encoder.detect(image), key=lambda face: face.box.left)
    return encoder.embed(encoder.align(image, faces))


def test_a_network_that_was_exported_for_one_crop_embeds_many_in_one_batch(made_encoder: Encoder) -> None:
    """The recognition model was exported for a batch of one. The encoder rewrites it."""
    image = draw_spots({"Ada": (100, 120), "Grace": (320, 240), "Linus": (540, 360)})
    crops = made_encoder.align(image, made_encoder.detect(image)) * 7
    together = made_encoder.embed(crops)
    assert len(together) == 21
    for crop, embedding in zip(crops, together, strict=True):
        (alone,) = made_encoder.embed([crop])
        assert np.allclose(alone, embedding, atol=1e-5)
    assert not np.allclose(together[0], together[1], atol=0.1)
    assert made_encoder.embed([]) == []


def test_a_network_that_returns_a_wrong_shape_is_refused_when_it_opens(made_pack: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made_pack, tmp_path / "pack"))
    network = onnx.load(folder / RECOGNIZER)
    (reshape,) = (tensor for tensor in network.graph.initializer if tensor.name == "flat")
    reshape.CopyFrom(onnx.numpy_helper.from_array(np.array([3, 32]), "flat"))
    for name, shape in (("weights", (32, 8)), ("bias", (8,))):
        (tensor,) = (tensor for tensor in network.graph.initializer if tensor.name == name)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(shape, dtype=np.float32), name))
    network.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 3
    network.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 8
    onnx.save(network, folder / RECOGNIZER)
    with pytest.raises(InvalidModel, match=r"returns shape \(3, 8\) for 1 crops"):
        InsightfaceEncoder("pack", read_pack(folder))


def test_a_detector_without_landmarks_is_refused(made_pack: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made_pack, tmp_path / "pack"))
    network = onnx.load(folder / DETECTOR)
    del network.graph.output[6:]
    onnx.save(network, folder / DETECTOR)
    with pytest.raises(InvalidModel, match="6 outputs has no landmarks"):
        InsightfaceEncoder("pack", read_pack(folder))


@pytest.mark.parametrize("size", [(1, 1), (500, 3), (3, 500), (640, 480)])
def test_an_image_without_green_has_no_faces(made_encoder: Encoder, size: tuple[int, int]) -> None:
    assert made_encoder.detect(np.full((size[1], size[0], 3), 127, dtype=np.uint8)) == []


def test_an_encoder_gives_the_same_results_after_loading_with_several_threads(
    made_pack: Path, made_encoder: Encoder
) -> None:
    several = Device(threads=3, runs=RunCounter())
    loaded = InsightfaceEncoder("loaded", read_pack(made_pack), several, several)
    loaded.load()
    image = two_people()
    faces = loaded.detect(image)
    assert [face.box for face in faces] == [face.box for face in made_encoder.detect(image)]
    expected = made_encoder.embed(made_encoder.align(image, faces))
    for embedding, other in zip(loaded.embed(loaded.align(image, faces)), expected, strict=True):
        assert cosine(embedding, other) >= 0.9999
    loaded.close()


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="left out: this onnxruntime has CUDA"
)
@pytest.mark.parametrize(
    ("devices", "setting"), [((0, -1), "DETECTOR_LOAD_DEVICE=0"), ((-1, 1), "RECOGNIZER_LOAD_DEVICE=1")]
)
def test_a_missing_gpu_is_refused_and_not_replaced_by_the_cpu(
    made_pack: Path, devices: tuple[int, int], setting: str
) -> None:
    names = ("DETECTOR_LOAD_DEVICE", "RECOGNIZER_LOAD_DEVICE")
    places = [Device(number, name) for number, name in zip(devices, names, strict=True)]
    with pytest.raises(InvalidSettings, match=setting):
        InsightfaceEncoder("insightface:pack", read_pack(made_pack), places[0], places[1])
