"""Opens the encoders that ENCODER names. A wrong value fails here, with the places that were searched."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from service.encoder.contract import Encoder
from service.encoder.devices import refuse_unused_devices
from service.encoder.encoders import Encoders
from service.encoder.fake import FakeEncoder
from service.encoder.images.decode import ImageLimits
from service.encoder.kinds import (
    DLIB,
    ENCODER_KINDS,
    FAKE,
    INSIGHTFACE,
    LEGACY,
    LEGACY_PADDED_CROP,
    EncoderKind,
    Extra,
    parse_encoder_name,
)
from service.encoder.runtime.processors import RunCounter, usable_processors
from service.errors import InvalidSettings
from service.settings import Settings

if TYPE_CHECKING:
    from service.encoder.insightface import Extras
    from service.encoder.legacy import Preprocessing
    from service.encoder.runtime.sessions import Device  # imported late: importing onnxruntime takes long


def open_encoders(settings: Settings) -> Encoders:
    """Open every encoder of ENCODER, in order, then that of LEGACY_ENCODER. Raises InvalidSettings for a wrong one."""
    names = encoder_names(settings)
    refuse_unused_devices(names, settings)
    limits = ImageLimits(settings.maximum_image_bytes, settings.maximum_image_pixels)
    threads = max(1, usable_processors() // settings.server_workers)  # the processes of one server share the machine
    devices = _devices(settings, threads)
    encoders = [_load(name, settings, devices) for name in names]
    runs, budget = devices.processor.runs, settings.maximum_decoded_pixels or None
    return Encoders(encoders, limits, settings.maximum_faces, threads, runs, budget_pixels=budget)


def encoder_names(settings: Settings) -> list[str]:
    """The names of ENCODER in order, then LEGACY_ENCODER, each once. Raises InvalidSettings if ENCODER is empty."""
    names = list(settings.encoder)
    if not names:
        raise InvalidSettings("ENCODER names no encoder")
    if settings.legacy_encoder and settings.legacy_api != "off":
        names.append(settings.legacy_encoder.strip())
    return list(dict.fromkeys(names))


def load_encoder(name: str, settings: Settings) -> Encoder:
    """Open the encoder `name`, spelled as in ENCODER. Raises InvalidSettings for a wrong one, or if the settings ask
    for a device that it cannot use.
    """
    refuse_unused_devices([name], settings)
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
    kind, argument = parse_encoder_name(name)
    _refuse_missing_extras(name, kind, settings)
    return _OPENERS[kind](_Request(name, argument, settings, devices))


class _Request(NamedTuple):
    """An encoder to open: its name as in ENCODER, what follows the colon, and where its networks run."""

    name: str
    argument: str
    settings: Settings
    devices: _Devices


def _open_dlib(request: _Request) -> Encoder:
    from service.encoder.dlib import DlibEncoder

    always = request.settings.dlib_small_faces == "always"
    return DlibEncoder(request.devices.processor, always_finely=always)


def _open_fake(request: _Request) -> Encoder:
    settings = request.settings
    return FakeEncoder(settings.liveness_threshold if settings.liveness != "off" else None)


def _open_insightface(request: _Request) -> Encoder:
    from service.encoder.insightface import InsightfaceEncoder
    from service.models.packs import find_pack

    pack = find_pack(request.argument, request.settings.data_dir)
    extras = _extras(request.settings, pack.folder, request.devices.recognizer)
    return InsightfaceEncoder(request.name, pack, request.devices.detector, request.devices.recognizer, extras)


def _open_legacy(request: _Request, preprocessing: "Preprocessing" = "aligned") -> Encoder:
    from service.encoder.legacy import LegacyEncoder
    from service.models.legacy_folders import find_models

    models = find_models(request.argument, request.settings.data_dir)
    return LegacyEncoder(request.name, models, preprocessing, request.devices.detector, request.devices.recognizer)


def _open_legacy_padded_crop(request: _Request) -> Encoder:
    return _open_legacy(request, "padded-crop")


_OPENERS: dict[EncoderKind, Callable[[_Request], Encoder]] = {
    DLIB: _open_dlib,
    FAKE: _open_fake,
    INSIGHTFACE: _open_insightface,
    LEGACY: _open_legacy,
    LEGACY_PADDED_CROP: _open_legacy_padded_crop,
}


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


def _refuse_missing_extras(name: str, kind: EncoderKind, settings: Settings) -> None:
    """A server that must enforce something refuses to start with an encoder that cannot."""
    values: dict[Extra, str] = {"LIVENESS": settings.liveness, "ATTRIBUTES": settings.attributes}
    for extra, value in values.items():
        if value != "off" and extra not in kind.extras:
            able = " and ".join(kind.usage for kind in ENCODER_KINDS if extra in kind.extras)
            raise InvalidSettings(f"{extra}={value} works with {able} only, not with ENCODER={name}")
