"""`face-identity detect` and `encode`: detect and encode the faces of an image, without a database."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.context import asynchronous, read_settings
from service.cli.encoders import EncoderName, encoders_named
from service.cli.files import check_drawing, read_file
from service.cli.options import Image
from service.cli.output import Json, write_json, write_line, write_table
from service.cli.recognize import corners
from service.cli.watch import DEFAULT_RATE, is_video, open_video, show_video

if TYPE_CHECKING:
    from service.encoder.contract import DetectedFace


@asynchronous
async def detect(
    image: Image,
    *,
    annotated: Annotated[
        Path | None,
        typer.Option(
            "--annotate",
            metavar="OUT",
            help="Write the image with boxes to this .jpg, .png or .webp file, a video to .mp4 or .mkv.",
        ),
    ] = None,
    encoder: EncoderName = None,
    as_json: Json = False,
) -> None:
    """Find the faces in an image or a video.

    Largest first. Nothing is stored. A video gives the faces that it shows, each followed over its frames.
    """
    from service.encoder.images.annotate import annotate

    if is_video(image):
        await _detect_in_video(image, annotated, encoder, as_json)
        return

    drawing = None if annotated is None else check_drawing(annotated)
    data = read_file(image)
    with encoders_named(read_settings(), encoder) as encoders:
        pixels = await encoders.decode(data)
        faces = await encoders.detect(encoders.default, pixels)
        if annotated is not None:
            boxes = [(face.box, str(number)) for number, face in enumerate(faces, start=1)]
            annotated.write_bytes(annotate(pixels, boxes, format=drawing or "JPEG"))
    if as_json:
        from service.api.pictures import Detection
        from service.api.shapes import FoundFace

        height, width, _ = pixels.shape
        write_json(Detection(faces=[FoundFace.of(face) for face in faces], width=width, height=height))
        return
    rows = [_row(number, face) for number, face in enumerate(faces, start=1)]
    write_table(["face", "left, top, right, bottom", "score", "quality"], rows, "The image shows no face.")


async def _detect_in_video(path: str, annotated: Path | None, encoder: str | None, as_json: bool) -> None:
    settings = read_settings()
    async with open_video(path, DEFAULT_RATE, annotated, settings) as video:
        from service.video.analysis import Analysis

        with encoders_named(settings, encoder) as encoders:
            await show_video(video, Analysis(encoders, encoders.default, None), as_json)


@asynchronous
async def encode(image: Image, *, encoder: EncoderName = None, as_json: Json = False) -> None:
    """Print the embedding of every face in an image.

    Largest first, one JSON list of numbers per line. Nothing is stored.
    """

    data = read_file(image)
    with encoders_named(read_settings(), encoder) as encoders:
        space = encoders.default
        faces = await encoders.encode(space, data)
    if as_json:
        from service.api.pictures import EncodedShape, Encoding, SpaceShape
        from service.api.shapes import face_fields

        answers = [EncodedShape(**face_fields(face.face), embedding=face.embedding.tolist()) for face in faces]
        write_json(Encoding(faces=answers, embedding_space=SpaceShape.of(space)))
        return
    for face in faces:
        write_json(face.embedding.tolist())
    if not faces:
        write_line("The image shows no face.")


def _row(number: int, face: "DetectedFace") -> list[object]:
    return [number, corners(face.box), face.detection_score, face.quality]
