"""The devices of each encoder's networks: what the settings ask for, and a refusal of what no encoder can use."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from service.encoder.kinds import ENCODER_KINDS, parse_encoder_name
from service.errors import InvalidSettings
from service.settings import Settings
from service.telemetry import logger

_CPU = "cpu"


class NetworkDevices(NamedTuple):
    """Where the networks of an encoder run: `cpu`, `cuda:0`, or another provider and the number of its GPU."""

    detector: str
    recognizer: str


def network_devices(name: str, settings: Settings) -> NetworkDevices:
    """Return the devices of the encoder `name`, spelled as in ENCODER.

    They are the devices in use: an open session either runs on the device of the settings or was refused.
    """
    kind, _ = parse_encoder_name(name)
    if not kind.takes_devices:
        return NetworkDevices(_CPU, _CPU)
    provider = settings.inference_provider
    return NetworkDevices(
        _device(settings.detector_load_device, provider), _device(settings.recognizer_load_device, provider)
    )


def refuse_unused_devices(names: Sequence[str], settings: Settings) -> None:
    """Raise InvalidSettings if the settings ask for a device or provider and none of the encoders can use it."""
    if any(parse_encoder_name(name)[0].takes_devices for name in names):
        return  # opening its sessions checks the device; the other encoders run on the CPU, as the log says
    asked = _asked(settings)
    if asked:
        able = ", ".join(kind.usage for kind in ENCODER_KINDS if kind.takes_devices)
        raise InvalidSettings(
            f"{' and '.join(asked)}: ENCODER={','.join(names)} runs on the CPU only. Choose an encoder that runs on "
            f"other devices ({able}), or leave the devices at -1 and INFERENCE_PROVIDER at auto"
        )


def log_devices(names: Iterable[str], settings: Settings) -> None:
    """Log the devices of each encoder, so that an operator sees which ones run on a GPU."""
    for name in names:
        devices = network_devices(name, settings)
        logger("encoder").info(
            "encoder", name=name, detector_device=devices.detector, recognizer_device=devices.recognizer
        )


def _asked(settings: Settings) -> list[str]:
    """The settings that ask for something else than the CPU."""
    devices = {
        "DETECTOR_LOAD_DEVICE": settings.detector_load_device,
        "RECOGNIZER_LOAD_DEVICE": settings.recognizer_load_device,
    }
    asked = [f"{name}={number}" for name, number in devices.items() if number >= 0]
    if settings.inference_provider not in ("auto", _CPU):
        asked.append(f"INFERENCE_PROVIDER={settings.inference_provider}")
    return asked


def _device(number: int, provider: str) -> str:
    if provider == "auto":
        provider = _CPU if number < 0 else "cuda"
    return provider if number < 0 else f"{provider}:{number}"
