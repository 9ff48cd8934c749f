"""Sessions: a missing provider is refused by name, and the number of threads does not change the results."""

from pathlib import Path

import onnxruntime
import pytest

from service.encoder.insightface import InsightfaceEncoder
from service.encoder.opening import open_encoders
from service.encoder.runtime.processors import RunCounter
from service.encoder.runtime.sessions import Device, Provider, chosen_provider, provider_options
from service.errors import InvalidSettings
from service.models.packs import read_pack
from service.settings import Settings
from tests.support.encoders import cosine
from tests.support.packs import two_people

HERE = onnxruntime.get_available_providers()


def test_device_minus_one_is_the_cpu() -> None:
    assert chosen_provider(-1, "auto", "DETECTOR_LOAD_DEVICE") == "CPUExecutionProvider"
    assert chosen_provider(-1, "cpu", "DETECTOR_LOAD_DEVICE") == "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("device", "provider", "missing"),
    [
        (0, "auto", "CUDAExecutionProvider"),
        (1, "cuda", "CUDAExecutionProvider"),
        (0, "tensorrt", "TensorrtExecutionProvider"),
        (-1, "openvino", "OpenVINOExecutionProvider"),
        (0, "openvino", "OpenVINOExecutionProvider"),
        (-1, "coreml", "CoreMLExecutionProvider"),
    ],
)
def test_a_missing_provider_is_refused_by_name(device: int, provider: Provider, missing: str) -> None:
    if missing in HERE:
        assert chosen_provider(device, provider, "DETECTOR_LOAD_DEVICE") == missing
        return
    with pytest.raises(InvalidSettings, match=rf"DETECTOR_LOAD_DEVICE={device} .*{missing}.*CPUExecutionProvider"):
        chosen_provider(device, provider, "DETECTOR_LOAD_DEVICE")


@pytest.mark.parametrize(("device", "provider"), [(-1, "cuda"), (-1, "tensorrt"), (0, "cpu"), (2, "coreml")])
def test_a_provider_that_does_not_fit_the_device_is_refused(device: int, provider: Provider) -> None:
    with pytest.raises(InvalidSettings, match=f"INFERENCE_PROVIDER={provider}"):
        chosen_provider(device, provider, "RECOGNIZER_LOAD_DEVICE")


def test_the_device_number_reaches_the_provider() -> None:
    assert provider_options("CUDAExecutionProvider", 3)[0][1]["device_id"] == 3
    assert provider_options("OpenVINOExecutionProvider", -1)[0][1]["device_type"] == "CPU"
    assert provider_options("OpenVINOExecutionProvider", 1)[0][1]["device_type"] == "GPU.1"


@pytest.mark.skipif("CUDAExecutionProvider" in HERE, reason="left out: this onnxruntime has CUDA")
def test_a_server_whose_gpu_is_missing_does_not_start(made_pack: Path) -> None:
    settings = Settings(_env_file=None, encoder=f"insightface:{made_pack}", recognizer_load_device=0)
    with pytest.raises(InvalidSettings, match="RECOGNIZER_LOAD_DEVICE=0"):
        open_encoders(settings)


def test_one_thread_and_several_give_the_same_results(made_pack: Path) -> None:
    counter = RunCounter()
    several = Device(threads=4, runs=counter)
    one, other = (InsightfaceEncoder("pack", read_pack(made_pack), device, device) for device in (Device(), several))
    image = two_people()
    faces = one.detect(image)
    assert [face.box for face in other.detect(image)] == pytest.approx([face.box for face in faces], abs=0.01) or all(
        abs(mine.box.left - theirs.box.left) < 0.01 for mine, theirs in zip(faces, other.detect(image), strict=True)
    )
    crops = one.align(image, faces)
    alone = other.embed(crops)
    counter.begin()  # as if another run was in progress: now the run has one thread
    beside = other.embed(crops)
    for single, wide, narrow in zip(one.embed(crops), alone, beside, strict=True):
        assert cosine(single, wide) >= 0.9999
        assert cosine(single, narrow) >= 0.9999


def test_only_the_first_of_several_runs_may_use_every_processor() -> None:
    counter = RunCounter()
    assert counter.begin()
    assert not counter.begin()
    counter.end()
    counter.end()
    assert counter.begin()


def test_a_run_may_not_use_every_processor_while_another_image_is_in_progress() -> None:
    counter = RunCounter()
    with counter.image():
        assert counter.begin()
        counter.end()
        with counter.image():
            assert not counter.begin()
            counter.end()
        assert counter.begin()
