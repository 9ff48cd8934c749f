"""From the setting ENCODER to loaded encoders; a wrong value fails here, with the place where it was looked for."""

from service.encoder.contract import Encoder
from service.encoder.encoders import Encoders
from service.encoder.fake import FakeEncoder
from service.encoder.images import ImageLimits
from service.errors import InvalidSettings
from service.settings import Settings


def open_encoders(settings: Settings) -> Encoders:
    """Every encoder that ENCODER names, in its order. InvalidSettings names a wrong one."""
    names = [name.strip() for name in settings.encoder.split(",") if name.strip()]
    if not names:
        raise InvalidSettings("ENCODER names no encoder")
    limits = ImageLimits(settings.maximum_image_bytes, settings.maximum_image_pixels)
    encoders = [load_encoder(name, settings) for name in dict.fromkeys(names)]
    return Encoders(encoders, limits, settings.maximum_faces)


def load_encoder(name: str, settings: Settings) -> Encoder:
    """The encoder called `name`: `dlib`, `fake` or `insightface:NAME_OR_FOLDER`."""
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
    raise InvalidSettings(f"ENCODER: {name!r} is none of dlib, fake, insightface:NAME_OR_FOLDER")
