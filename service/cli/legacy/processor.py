"""`face-identity legacy processor`: find the faces of an image or camera, or recognize them with a dataset file."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from service.cli.context import read_settings
from service.cli.encoders import encoders_named
from service.cli.files import read_file
from service.cli.legacy.arguments import processor_arguments
from service.cli.output import remark, write_json
from service.errors import NotFound

if TYPE_CHECKING:
    from service.embedding import EmbeddingSpace
    from service.encoder.contract import DetectedFace, Image
    from service.encoder.encoders import Encoders
    from service.identity.in_memory import References

Faces: TypeAlias = "list[tuple[DetectedFace, str | int]]"


def main(arguments: Sequence[str]) -> None:
    """Run the program with its command line arguments."""
    options = processor_arguments(arguments)
    import asyncio

    from service.identity.in_memory import read_references
    from service.identity.legacy_recognition import legacy_space
    from service.telemetry import configure_logging

    settings = read_settings(detector_load_device=options.det_dev, recognizer_load_device=options.rek_dev)
    if options.verbose:
        configure_logging("DEBUG")
    with encoders_named(settings, options.encoder or settings.legacy_encoder) as encoders:
        space = legacy_space(encoders, None)
        references = read_references(Path(options.dataset), space) if options.type == "recognition" else None
        analyst = Analyst(encoders, space, references)
        asyncio.run(_watch(options, analyst) if options.live and not options.image else _analyze(options, analyst))


class Analyst:
    """Finds faces and, if there are references, labels them."""

    def __init__(self, encoders: "Encoders", space: "EmbeddingSpace", references: "References | None") -> None:
        self.encoders = encoders
        self._space = space
        self._references = references

    async def faces_of(self, image: "Image") -> Faces:
        """Each face with its label, or with its index if there are no references."""
        from service.compat.legacy.answers import NOBODY

        if self._references is None:
            faces = await self.encoders.detect(self._space, image)
            return [(face, index) for index, face in enumerate(faces)]
        encoded = await self.encoders.encode(self._space, image)
        names = self._references.vote([face.embedding for face in encoded])
        return [(face.face, name or NOBODY) for face, name in zip(encoded, names, strict=True)]


async def _analyze(options: argparse.Namespace, analyst: Analyst) -> None:
    """Process one image; with `-t` continue with the camera."""
    from service.cli.legacy.showing import show
    from service.compat.legacy.answers import faces_answer

    image = await _image(options, analyst.encoders)
    faces = await analyst.faces_of(image)
    if options.prints:
        write_json(faces_answer(faces))
    if options.show:
        show(_drawn(image, faces), f"{Path(options.image or 'camera').stem}-{options.type}.jpg")
    if not options.prints and not options.show:
        remark(f"{len(faces)} faces; -p prints them, -s shows the image")
    if options.live:
        await _watch(options, analyst)


async def _image(options: argparse.Namespace, encoders: "Encoders") -> "Image":
    from service.cli.legacy.camera import Camera

    if options.image:
        return await encoders.decode(read_file(options.image))
    with Camera(options.camera) as camera:
        taken = camera.read()
    if taken is None:
        raise NotFound("the camera returned no image; give one with -i IMG")
    return taken


async def _watch(options: argparse.Namespace, analyst: Analyst) -> None:
    """Process every image of the camera until the user presses q or the video ends."""
    from service.cli.legacy.camera import Camera
    from service.cli.legacy.showing import Screen
    from service.compat.legacy.answers import faces_answer

    with Camera(options.camera) as camera:
        screen = Screen(f"camera-{options.type}.jpg")
        while (image := camera.read()) is not None:
            faces = await analyst.faces_of(image)
            if options.prints:
                write_json(faces_answer(faces))
            if not screen.show(_drawn(image, faces)):
                break
        screen.close()


def _drawn(image: "Image", faces: Faces) -> bytes:
    from service.encoder.images.annotate import annotate

    return annotate(image, [(face.box, str(label)) for face, label in faces], [face.landmarks for face, _ in faces])
