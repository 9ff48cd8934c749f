"""Devices that the settings ask for: used, or refused at the start for every encoder."""

from pathlib import Path
from typing import Any

import pytest

from service import Recognizer
from service.encoder.devices import NetworkDevices, network_devices
from service.encoder.kinds import ENCODER_KINDS
from service.encoder.opening import load_encoder, open_encoders
from service.errors import InvalidSettings
from service.settings import Settings

CPU_ENCODERS = [kind.name for kind in ENCODER_KINDS if not kind.takes_devices]
ASKED: list[dict[str, Any]] = [
    {"detector_load_device": 0},
    {"recognizer_load_device": 0},
    {"inference_provider": "cuda"},
    {"inference_provider": "openvino"},
]


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("encoder", CPU_ENCODERS)
def test_an_encoder_of_the_cpu_refuses_every_other_device(encoder: str, asked: dict[str, Any]) -> None:
    ((name, value),) = asked.items()
    for opens in (open_encoders, lambda settings: load_encoder(encoder, settings)):
        with pytest.raises(
            InvalidSettings, match=rf"{name.upper()}={value}: ENCODER={encoder} .*CPU only.*insightface"
        ):
            opens(settings(encoder=encoder, **asked))


def test_there_are_encoders_of_the_cpu() -> None:
    assert CPU_ENCODERS == ["dlib", "fake"]


@pytest.mark.parametrize("provider", ["auto", "cpu"])
@pytest.mark.parametrize("encoder", CPU_ENCODERS)
def test_an_encoder_of_the_cpu_opens_on_the_cpu(encoder: str, provider: str) -> None:
    load_encoder(encoder, settings(inference_provider=provider)).close()


def test_beside_an_encoder_that_takes_devices_dlib_runs_on_the_cpu(tmp_path: Path) -> None:
    both = settings(encoder="dlib,insightface:absent", recognizer_load_device=0, data_dir=tmp_path)
    with pytest.raises(InvalidSettings, match="absent"):  # the device is no reason to refuse
        open_encoders(both)
    assert network_devices("dlib", both) == NetworkDevices("cpu", "cpu")
    assert network_devices("insightface:absent", both) == NetworkDevices("cpu", "cuda:0")


@pytest.mark.parametrize(("provider", "shown"), [("auto", ("cpu", "cuda:2")), ("openvino", ("openvino", "openvino:2"))])
def test_a_device_is_named_by_its_provider_and_number(provider: str, shown: tuple[str, str]) -> None:
    wanted = settings(inference_provider=provider, recognizer_load_device=2)
    assert network_devices("insightface:mine", wanted) == shown


def test_the_module_refuses_a_device_that_it_cannot_use() -> None:
    with pytest.raises(InvalidSettings, match=r"RECOGNIZER_LOAD_DEVICE=0.*CPU only"):
        Recognizer("dlib", recognition_device=0)
