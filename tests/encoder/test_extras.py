"""Liveness and attributes: off by default, and equal to the results of insightface's own code on made networks.

The published networks are not here, but their shapes are. So the tests check alignment, scaling and decisions, not
accuracy.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.encoder.contract import Box, DetectedFace, Encoder, Liveness
from service.encoder.encoders import Encoders
from service.encoder.fake import FakeEncoder
from service.encoder.fake_pictures import draw_people
from service.encoder.insightface import Extras, InsightfaceEncoder
from service.encoder.networks import liveness as liveness_module
from service.encoder.networks.age_gender import AttributesNetwork
from service.encoder.networks.liveness import LivenessNetwork, find_liveness
from service.encoder.opening import open_encoders
from service.encoder.runtime.sessions import PROCESSOR, open_session
from service.errors import InvalidModel, InvalidSettings
from service.models.packs import file_digest, read_pack
from service.settings import Settings
from tests.support.encoders import LIMITS
from tests.support.packs import two_people


def save_network(path: Path, side: int, weights: np.ndarray, outputs: int, sigmoid: bool) -> Path:
    """A network of one layer: mean color times weights, for input (n, 3, side, side)."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["scored"]),
        helper.make_node("Sigmoid", ["scored"], ["squeezable"])
        if sigmoid
        else helper.make_node("Identity", ["scored"], ["output"]),
    ]
    shape: list[object] = ["batch", outputs]
    if sigmoid:
        nodes.append(helper.make_node("Squeeze", ["squeezable", "axes"], ["output"]))
        shape = ["batch"]
    graph = helper.make_graph(
        nodes,
        "made up",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, side, side])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "axes"),
        ],
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]), path)
    return path


@pytest.fixture
def liveness_file(tmp_path: Path) -> Path:
    return save_network(tmp_path / "liveness.onnx", 80, np.array([[2.0], [-1.0], [0.5]]), 1, sigmoid=True)


@pytest.fixture
def genderage_file(tmp_path: Path) -> Path:
    weights = np.array([[0.4, -0.2, 0.3], [0.1, 0.5, 0.2], [-0.3, 0.2, -0.1]])
    return save_network(tmp_path / "genderage.onnx", 96, weights, 3, sigmoid=False)


def test_liveness_scores_equal_those_of_insightface(liveness_file: Path, made_encoder: Encoder) -> None:
    from insightface.addons.liveness import Liveness as TheirLiveness

    image = two_people()
    theirs = TheirLiveness(str(liveness_file), providers=["CPUExecutionProvider"])
    ours = LivenessNetwork(open_session(liveness_file, PROCESSOR), 0.8)
    for face in made_encoder.detect(image):
        expected = theirs.predict(np.ascontiguousarray(image[:, :, ::-1]), np.array(face.landmarks))
        found = ours.judge(image, face)
        assert found.score == pytest.approx(expected["live_score"], abs=1e-4)
        assert found.is_live == expected["is_live"]


def test_the_liveness_of_a_face_at_the_border_is_not_judged(liveness_file: Path) -> None:
    image = two_people()
    landmarks = ((-20.0, 5.0), (20.0, 5.0), (0.0, 25.0), (-15.0, 40.0), (15.0, 40.0))
    face = DetectedFace(Box(0, 0, 30, 50), 0.9, landmarks, 0.5)
    found = LivenessNetwork(open_session(liveness_file, PROCESSOR), 0.8).judge(image, face)
    assert (found.is_live, found.score) == (None, None)
    assert "outside the image" in found.reason


def test_age_and_gender_equal_those_of_insightface(genderage_file: Path, made_encoder: Encoder) -> None:
    from insightface.app.common import Face
    from insightface.model_zoo.attribute import Attribute

    image = two_people()
    theirs = Attribute(str(genderage_file))
    ours = AttributesNetwork(open_session(genderage_file, PROCESSOR), genderage_file)
    for face in made_encoder.detect(image):
        box = np.array([face.box.left, face.box.top, face.box.right, face.box.bottom])
        gender, age = theirs.get(np.ascontiguousarray(image[:, :, ::-1]), Face(bbox=box))
        found = ours.guess(image, face)
        assert found.age_years == pytest.approx(age, abs=1)
        assert found.gender == ("female", "male")[gender]


async def test_liveness_and_attributes_are_computed_only_if_the_operator_asked_for_them(
    made_pack: Path, liveness_file: Path, genderage_file: Path, made_encoder: Encoder
) -> None:
    image = two_people()
    extras = Extras(
        LivenessNetwork(open_session(liveness_file, PROCESSOR), 0.8),
        AttributesNetwork(open_session(genderage_file, PROCESSOR), genderage_file),
    )
    asked = InsightfaceEncoder("asked", read_pack(made_pack), extras=extras)
    for encoder, expected in ((made_encoder, False), (asked, True)):
        encoders = Encoders([encoder], LIMITS, 200, threads=1)
        for encoded in await encoders.encode(encoders.default, image):
            assert (encoded.face.liveness is not None) == expected
            assert (encoded.face.attributes is not None) == expected
        for face in await encoders.detect(encoders.default, image):
            assert (face.liveness is not None) == expected
        encoders._pipeline.close()
    assert asked.space.digest == made_encoder.space.digest


def test_a_missing_liveness_addon_is_named_and_another_file_is_refused(
    made_pack: Path, tmp_path: Path, liveness_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    settings = Settings(_env_file=None, data_dir=tmp_path, encoder=f"insightface:{made_pack}", liveness="observe")
    with pytest.raises(InvalidSettings, match=r"addons/liveness\.onnx"):
        open_encoders(settings)
    (tmp_path / "addons").mkdir()
    (tmp_path / "addons" / "liveness.onnx").write_bytes(liveness_file.read_bytes())
    with pytest.raises(InvalidModel, match="not the published liveness addon"):
        open_encoders(settings)
    monkeypatch.setattr(liveness_module, "ADDON_DIGEST", file_digest(liveness_file))
    assert find_liveness(tmp_path) == tmp_path / "addons" / "liveness.onnx"
    open_encoders(settings).close()


def test_attributes_are_refused_if_the_pack_lacks_their_network(made_pack: Path, tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path, encoder=f"insightface:{made_pack}", attributes="age-gender")
    with pytest.raises(InvalidSettings, match="ATTRIBUTES needs a network"):
        open_encoders(settings)


@pytest.mark.parametrize(("encoder", "setting"), [("dlib", "liveness"), ("dlib", "attributes"), ("fake", "attributes")])
def test_an_extra_is_refused_with_an_encoder_that_lacks_it(encoder: str, setting: str) -> None:
    asked: dict[str, Any] = {"liveness": "enforce"} if setting == "liveness" else {"attributes": "age-gender"}
    with pytest.raises(InvalidSettings, match=setting.upper()):
        open_encoders(Settings(_env_file=None, encoder=encoder, **asked))


async def test_the_fake_encoder_detects_printed_faces() -> None:
    encoders = Encoders([FakeEncoder(liveness_threshold=0.8)], LIMITS, 200, threads=1)
    space = encoders.default
    (living,) = await encoders.encode(space, draw_people(["Ada"], variation=3))
    (printed,) = await encoders.encode(space, draw_people(["Ada"], variation=3, printed=True))
    assert living.face.liveness is not None
    assert printed.face.liveness is not None
    assert living.face.liveness == Liveness(True, living.face.liveness.score)
    assert printed.face.liveness == Liveness(False, printed.face.liveness.score)
    encoders.close()
