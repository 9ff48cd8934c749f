"""Which encoder a command works with: the gallery's own, the one named, or the first of ENCODER."""

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer

from service.embedding import EmbeddingSpace, external_space
from service.encoder.encoders import Encoders
from service.encoder.opening import KINDS, open_encoders
from service.settings import Settings

_ENCODERS = " | ".join(KINDS)
EncoderName = Annotated[
    str | None,
    typer.Option("--encoder", "-e", help=f"{_ENCODERS} (default: the first of ENCODER)."),
]
SpaceName = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        "--embedding-space",
        "-e",
        help=f"{_ENCODERS} | external:LABEL:DIMENSION (default: the first of ENCODER).",
    ),
]


@contextlib.contextmanager
def encoders_named(settings: Settings, name: str | None) -> Iterator[Encoders]:
    """The encoder of that name and no other; None: those of ENCODER. Models load with their first use."""
    encoders = open_encoders(settings if name is None else settings.model_copy(update={"encoder": [name]}))
    try:
        yield encoders
    finally:
        encoders.close()


@contextlib.contextmanager
def encoders_for(settings: Settings, space: EmbeddingSpace) -> Iterator[Encoders]:
    """Encoders among which is the gallery's own, also where ENCODER does not name it."""
    with encoders_named(settings, None) as encoders:
        if space.is_external or any(loaded.digest == space.digest for loaded in encoders.spaces):
            yield encoders
            return
    with encoders_named(settings, space.name) as encoders:
        yield encoders


def choose_space(settings: Settings, name: str | None) -> EmbeddingSpace:
    """The embedding space of a new gallery: an encoder's, or one of embeddings made elsewhere."""
    if name is not None and (external := external_space(name)) is not None:
        return external
    with encoders_named(settings, name) as encoders:
        return encoders.default
