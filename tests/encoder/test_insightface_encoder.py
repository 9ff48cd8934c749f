"""The insightface encoder against insightface.app.FaceAnalysis, and the packs and images that it refuses."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from service.encoder.contract import Encoder
from service.encoder.insightface import InsightfaceEncoder
from service.encoder.runtime.sessions import Device
from service.errors import InvalidSettings
from service.models.packs import read_pack
from tests.encoder.test_real_encoders import overlap
from tests.support.encoders import cosine, pack_folder, photograph


@pytest.fixture(scope="module")
def face_analysis() -> Any:
    """insightface's own pipeline on the same pack."""
    from insightface.app import FaceAnalysis

    analysis = FaceAnalysis(name=str(pack_folder()), providers=["CPUExecutionProvider"])
    analysis.prepare(ctx_id=-1)
    return analysis


@pytest.mark.parametrize(
    "picture", ["groups/two_people.jpg", "groups/obama_and_biden.jpg", "people/alex_lacamoire/2.png"]
)
def test_boxes_and_embeddings_are_those_of_face_analysis(
    face_analysis: Any, insightface_encoder: Encoder, picture: str
) -> None:
    image = photograph(*picture.split("/"))
    theirs = face_analysis.get(np.ascontiguousarray(image[:, :, ::-1]))
    ours = insightface_encoder.detect(image)
    assert len(ours) == len(theirs) > 0
    embeddings = insightface_encoder.embed(insightface_encoder.align(image, ours))
    for face, embedding in zip(ours, embeddings, strict=True):
        same = max(theirs, key=lambda other: -np.abs(other.bbox[:2] - (face.box.left, face.box.top)).sum())
        box = (face.box.left, face.box.top, face.box.right, face.box.bottom)
        assert np.abs(np.clip(same.bbox, 0, None) - box).max() < 1.0
        assert np.abs(same.kps - np.array(face.landmarks)).max() < 1.0
        assert abs(same.det_score - face.detection_score) < 0.01
        assert cosine(same.embedding, embedding) >= 0.999


def test_the_smaller_detector_with_one_input_size_finds_the_same_faces(insightface_encoder: Encoder) -> None:
    small = InsightfaceEncoder("small", read_pack(pack_folder().parent / "scrfd500m-mobilefacenet128"))
    image = photograph("groups", "two_people.jpg")
    for one, other in zip(small.detect(image), insightface_encoder.detect(image), strict=True):
        assert overlap(one.box, other.box) > 0.7
    assert small.space.digest != insightface_encoder.space.digest
    assert small.space.dimension == insightface_encoder.space.dimension == 128


def test_the_digest_is_of_the_files_not_of_their_place(insightface_encoder: Encoder, tmp_path: Path) -> None:
    moved = shutil.copytree(pack_folder(), tmp_path / "moved")
    assert InsightfaceEncoder("moved", read_pack(moved)).space.digest == insightface_encoder.space.digest
    (moved / "mobilefacenet.onnx").rename(moved / "renamed.onnx")
    assert InsightfaceEncoder("renamed", read_pack(moved)).space.digest == insightface_encoder.space.digest


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="left out: this onnxruntime has CUDA"
)
@pytest.mark.parametrize(
    ("devices", "setting"), [((0, -1), "DETECTOR_LOAD_DEVICE=0"), ((-1, 1), "RECOGNIZER_LOAD_DEVICE=1")]
)
def test_a_missing_gpu_is_refused_and_never_replaced(devices: tuple[int, int], setting: str) -> None:
    names = ("DETECTOR_LOAD_DEVICE", "RECOGNIZER_LOAD_DEVICE")
    places = [Device(number, name) for number, name in zip(devices, names, strict=True)]
    with pytest.raises(InvalidSettings, match=setting):
        InsightfaceEncoder("insightface:pack", read_pack(pack_folder()), places[0], places[1])
