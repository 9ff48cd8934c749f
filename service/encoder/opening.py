"""Opens the encoders that ENCODER names. A wrong value fails here, with the places that were searched."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from service.encoder.contract import Encoder
from service.encoder.encoders import Encoders
from service.encoder.fake import FakeEncoder
from service.encoder.images.decode import ImageLimits
from service.encoder.runtime.processors import RunCounter, usable_processors
from service.errors import InvalidSettings
from service.settings import Settings

if TYPE_CHECKING:
    from service.encoder.insightface import Extras
    from service.encoder.runtime.sessions import Device  # imported late: importing onnxruntime takes long

KINDS = ("dlib", "fake", "insightface:NAME_OR_FOLDER", "legacy:FOLDER", "legacy-padded-crop:FOLDER")
"""Values that ENCODER may have."""


def open_encoders(settings: Settings) -> Encoders:
    """Every encoder of ENCODER, in order, then that of LEGACY_ENCODER. Raises InvalidSettings for a wrong one."""
    names = list(settings.encoder)
    if not names:
        raise InvalidSettings("ENCODER names no encoder")
    if settings.legacy_encoder and settings.legacy_api != "off":
        names.append(settings.legacy_encoder.strip())
    limits = ImageLimits(settings.maximum_image_bytes, settings.maximum_image_pixels)
    threads = max(1, usable_processors() // settings.server_workers)  # the processes of one server share the machine
    devices = _devices(settings, threads)
    encoders = [_load(name, settings, devices) for name in dict.fromkeys(names)]
    return Encoders(encoders, limits, settings.maximum_faces, threads, devices.processor.runs)


def load_encoder(name: str, settings: Settings) -> Encoder:
    """The encoder called `name`: one of `KINDS`."""
    return _load(name, settings, _devices(settings, usable_processors()))


class _Devices(NamedTuple):
    processor: "Device"
    detector: "Device"
    recognizer: "Device"


def _devices(settings: Settings, threads: int) -> _Devices:
    """The devices of the networks. They share one counter of runs, so that they share the threads."""
    from service.encoder.runtime.sessions import Device

    runs, provider = RunCounter(), settings.inference_provider
    return _Devices(
        Device(threads=threads, runs=runs),
        Device(settings.detector_load_device, "DETECTOR_LOAD_DEVICE", provider, threads, runs),
        Device(settings.recognizer_load_device, "RECOGNIZER_LOAD_DEVICE", provider, threads, runs),
    )


def _load(name: str, settings: Settings, devices: _Devices) -> Encoder:
    _refuse_missing_extras(name, settings)
    if name == "fake":
        return FakeEncoder(settings.liveness_threshold if settings.liveness != "off" else None)
    if name == "dlib":
        from service.encoder.dlib import DlibEncoder

        return DlibEncoder(devices.processor)
    if name.startswith("insightface:"):
        from service.encoder.insightface import InsightfaceEncoder
        from service.models.packs import find_pack

        pack = find_pack(name.removeprefix("insightface:"), settings.data_dir)
        extras = _extras(settings, pack.folder, devices.recognizer)
        return InsightfaceEncoder(name, pack, devices.detector, devices.recognizer, extras)
    if name.startswith(("legacy:", "legacy-padded-crop:")):
        return _load_legacy(name, settings, devices)
    raise InvalidSettings(f"ENCODER: {name!r} is none of {', '.join(KINDS)}")


def _extras(settings: Settings, pack: Path, device: "Device") -> "Extras":
    from service.encoder.insightface import Extras
    from service.encoder.networks.age_gender import AttributesNetwork, find_attributes
    from service.encoder.networks.liveness import LivenessNetwork, find_liveness
    from service.encoder.runtime.sessions import open_session

    liveness, attributes = None, None
    if settings.liveness != "off":
        session = open_session(find_liveness(settings.data_dir), device)
        liveness = LivenessNetwork(session, settings.liveness_threshold)
    if settings.attributes != "off":
        file = find_attributes(pack)
        attributes = AttributesNetwork(open_session(file, device), file)
    return Extras(liveness, attributes)


def _refuse_missing_extras(name: str, settings: Settings) -> None:
    """A server that must enforce something refuses to start with an encoder that cannot."""
    asked = {"LIVENESS": settings.liveness, "ATTRIBUTES": settings.attributes}
    for setting, value in asked.items():
        offered = name.startswith("insightface:") or (name == "fake" and setting == "LIVENESS")
        if value != "off" and not offered:
            raise InvalidSettings(f"{setting}={value} works with insightface packs only, not with ENCODER={name}")


def _load_legacy(name: str, settings: Settings, devices: _Devices) -> Encoder:
    from service.encoder.legacy import LegacyEncoder
    from service.models.legacy_folders import find_models

    kind, _, folder = name.partition(":")
    models = find_models(folder, settings.data_dir)
    preprocessing: Literal["aligned", "padded-crop"] = "aligned" if kind == "legacy" else "padded-crop"
    return LegacyEncoder(name, models, preprocessing, devices.detector, devices.recognizer)
