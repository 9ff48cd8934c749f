"""From the setting ENCODER to loaded encoders; a wrong value fails here, with the place where it was looked for."""

from service.encoder.contract import Encoder
from service.encoder.encoders import Encoders
from service.encoder.fake import FakeEncoder
from service.encoder.images import ImageLimits
from service.errors import InvalidSettings
from service.settings import Settings

KINDS = ("dlib", "fake", "insightface:NAME_OR_FOLDER", "legacy:FOLDER", "legacy-padded-crop:FOLDER")
"""What ENCODER may name."""


def open_encoders(settings: Settings) -> Encoders:
    """Every encoder that ENCODER names, in its order. InvalidSettings names a wrong one."""
    names = [name.strip() for name in settings.encoder.split(",") if name.strip()]
    if not names:
        raise InvalidSettings("ENCODER names no encoder")
    limits = ImageLimits(settings.maximum_image_bytes, settings.maximum_image_pixels)
    encoders = [load_encoder(name, settings) for name in dict.fromkeys(names)]
    return Encoders(encoders, limits, settings.maximum_faces)


def load_encoder(name: str, settings: Settings) -> Encoder:
    """The encoder called `name`: one of `KINDS`."""
    if name == "fake":
        return FakeEncoder()
    if name == "dlib":
        from service.encoder.dlib_encoder import DlibEncoder

        return DlibEncoder()
    if name.startswith("insightface:"):
        from service.encoder.insightface_encoder import InsightfaceEncoder
        from service.encoder.packs import find_pack

        pack = find_pack(name.removeprefix("insightface:"), settings.data_dir)
        devices = (settings.detector_load_device, settings.recognizer_load_device)
        return InsightfaceEncoder(name, pack, *devices)
    if name.startswith(("legacy:", "legacy-padded-crop:")):
        return _load_legacy(name, settings)
    raise InvalidSettings(f"ENCODER: {name!r} is none of {', '.join(KINDS)}")


def _load_legacy(name: str, settings: Settings) -> Encoder:
    from service.encoder.legacy_encoder import LegacyEncoder
    from service.encoder.legacy_models import find_models

    kind, _, folder = name.partition(":")
    models = find_models(folder, settings.data_dir)
    devices = (settings.detector_load_device, settings.recognizer_load_device)
    return LegacyEncoder(name, models, "aligned" if kind == "legacy" else "padded-crop", *devices)
