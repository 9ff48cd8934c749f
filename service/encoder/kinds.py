"""The kinds of encoders by name.

`ENCODER_KINDS` is the only list of the names: settings, commands and errors are made from it or compared with it by a
test. Nothing heavy is imported here, because the help of commands shows the list.
"""

from typing import Literal, NamedTuple

from service.errors import InvalidSettings

Extra = Literal["LIVENESS", "ATTRIBUTES"]
"""The setting of something that an encoder may compute besides embeddings."""


class EncoderKind(NamedTuple):
    """A kind of encoder. ENCODER names one as `name`, or as `name:value` if the kind has an `argument`.

    `takes_devices`: its networks run on the devices of the settings. The others run on the CPU only.
    """

    name: str
    argument: str = ""
    extras: tuple[Extra, ...] = ()
    takes_devices: bool = False

    @property
    def usage(self) -> str:
        """How to name an encoder of this kind, for people: `dlib`, or `legacy:FOLDER`."""
        return f"{self.name}:{self.argument}" if self.argument else self.name

    def has_named(self, value: str) -> bool:
        """Return whether `value`, spelled as in ENCODER, names an encoder of this kind."""
        name, colon, _ = value.partition(":")
        return name == self.name and bool(colon) == bool(self.argument)


DLIB = EncoderKind("dlib")
FAKE = EncoderKind("fake", extras=("LIVENESS",))
INSIGHTFACE = EncoderKind("insightface", "NAME_OR_FOLDER", extras=("LIVENESS", "ATTRIBUTES"), takes_devices=True)
LEGACY = EncoderKind("legacy", "FOLDER", takes_devices=True)
LEGACY_PADDED_CROP = EncoderKind("legacy-padded-crop", "FOLDER", takes_devices=True)
ENCODER_KINDS = (DLIB, FAKE, INSIGHTFACE, LEGACY, LEGACY_PADDED_CROP)


def parse_encoder_name(value: str) -> tuple[EncoderKind, str]:
    """Split `value`, spelled as in ENCODER, into the kind and its argument, which is "" for kinds without one.

    Raises InvalidSettings if no kind has that name, or if the argument is missing.
    """
    kind = next((kind for kind in ENCODER_KINDS if kind.has_named(value)), None)
    if kind is None:
        raise InvalidSettings(f"ENCODER: {value!r} is none of {', '.join(kind.usage for kind in ENCODER_KINDS)}")
    argument = value.partition(":")[2]
    if kind.argument and not argument:
        raise InvalidSettings(f"ENCODER: {value!r} needs {kind.argument} after the colon")
    return kind, argument
