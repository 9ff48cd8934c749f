"""The dlib encoder gives the results of dlib itself."""

import dlib
import numpy as np
import pytest

from service.encoder.contract import Encoder
from service.encoder.dlib import _RECOGNITION_FILE, _weights_folder
from service.encoder.networks.dlib_resnet import dlib_onnx_model
from service.errors import InvalidModel
from tests.support.encoders import portrait


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
