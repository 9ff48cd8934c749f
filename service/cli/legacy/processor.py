"""`face-identity legacy processor`: the faces of a picture or of a camera, and whose they are in a dataset file."""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from service.cli.context import read_settings
from service.cli.encoders import encoders_named
from service.cli.files import read_file
from service.cli.legacy.arguments import processor_arguments
from service.cli.legacy.camera import Camera
from service.cli.legacy.showing import Screen, show
from service.cli.output import remark, write_json
from service.compat.legacy.answers import NOBODY, faces_answer
from service.embedding import EmbeddingSpace
from service.encoder.contract import DetectedFace, Image
from service.encoder.encoders import Encoders
from service.encoder.images.annotate import annotate
from service.errors import NotFound
from service.identity.in_memory import References, read_references
from service.identity.legacy_recognition import legacy_space
from service.telemetry import configure_logging

Faces = list[tuple[DetectedFace, str | int]]


def main(arguments: Sequence[str]) -> None:
    """Run the program."""
    given = processor_arguments(arguments)
    settings = read_settings(detector_load_device=given.det_dev, recognizer_load_device=given.rek_dev)
    if given.verbose:
        configure_logging("DEBUG")
    with encoders_named(settings, given.encoder or settings.legacy_encoder) as encoders:
        space = legacy_space(encoders, None)
        references = read_references(Path(given.dataset), space) if given.type == "recognition" else None
        analyst = Analyst(encoders, space, references)
        asyncio.run(_watch(given, analyst) if given.live and not given.image else _analyze(given, analyst))


class Analyst:
    """Finds faces, and their labels where there are references."""

    def __init__(self, encoders: Encoders, space: EmbeddingSpace, references: References | None) -> None:
        self.encoders = encoders
        self._space = space
        self._references = references

    async def faces_of(self, picture: Image) -> Faces:
        """Each face with its label, or with its place where nobody is asked for."""
        if self._references is None:
            found = await self.encoders.detect(self._space, picture)
            return [(face, place) for place, face in enumerate(found)]
        encoded = await self.encoders.encode(self._space, picture)
        names = self._references.vote([face.embedding for face in encoded])
        return [(face.face, name or NOBODY) for face, name in zip(encoded, names, strict=True)]


async def _analyze(given: argparse.Namespace, analyst: Analyst) -> None:
    """One picture; with `-t` the camera afterwards."""
    picture = await _picture(given, analyst.encoders)
    faces = await analyst.faces_of(picture)
    if given.prints:
        write_json(faces_answer(faces))
    if given.show:
        show(_drawn(picture, faces), f"{Path(given.image or 'camera').stem}-{given.type}.jpg")
    if not given.prints and not given.show:
        remark(f"{len(faces)} faces; -p prints them, -s shows the picture")
    if given.live:
        await _watch(given, analyst)


async def _picture(given: argparse.Namespace, encoders: Encoders) -> Image:
    if given.image:
        return await encoders.decode(read_file(given.image))
    with Camera(given.camera) as camera:
        taken = camera.read()
    if taken is None:
        raise NotFound("the camera gives no picture; name one with -i IMG")
    return taken


async def _watch(given: argparse.Namespace, analyst: Analyst) -> None:
    """Every picture of the camera, until q or until there are no more."""
    with Camera(given.camera) as camera:
        screen = Screen(f"camera-{given.type}.jpg")
        while (picture := camera.read()) is not None:
            faces = await analyst.faces_of(picture)
            if given.prints:
                write_json(faces_answer(faces))
            if not screen.show(_drawn(picture, faces)):
                break
        screen.close()


def _drawn(picture: Image, faces: Faces) -> bytes:
    return annotate(picture, [(face.box, str(label)) for face, label in faces], [face.landmarks for face, _ in faces])
