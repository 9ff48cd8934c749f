"""`face-identity detect` and `encode`: what an encoder sees in a picture. No database is opened."""

from pathlib import Path
from typing import Annotated

import typer

from service.api.pictures import Detection, EncodedShape, Encoding, SpaceShape
from service.api.shapes import FoundFace, found
from service.cli.context import asynchronous, read_settings
from service.cli.encoders import EncoderName, encoders_named
from service.cli.files import read_file
from service.cli.output import Json, write_json, write_line, write_table
from service.cli.recognize import corners
from service.encoder.contract import DetectedFace
from service.encoder.images.annotate import annotate

Image = Annotated[str, typer.Argument(metavar="IMAGE", help="A picture file; - reads standard input.")]


@asynchronous
async def detect(
    image: Image,
    *,
    annotated: Annotated[
        Path | None, typer.Option("--annotate", metavar="OUT.jpg", help="Write the picture with boxes here.")
    ] = None,
    encoder: EncoderName = None,
    as_json: Json = False,
) -> None:
    """Find the faces in a picture.

    Largest first; nothing is stored.
    """
    data = read_file(image)
    with encoders_named(read_settings(), encoder) as encoders:
        picture = await encoders.decode(data)
        faces = await encoders.detect(encoders.default, picture)
        if annotated is not None:
            boxes = [(face.box, str(number)) for number, face in enumerate(faces, start=1)]
            annotated.write_bytes(annotate(picture, boxes))
    if as_json:
        height, width, _ = picture.shape
        write_json(Detection(faces=[FoundFace.of(face) for face in faces], width=width, height=height))
        return
    rows = [_row(number, face) for number, face in enumerate(faces, start=1)]
    write_table(["face", "left, top, right, bottom", "score", "quality"], rows, "There is no face in this picture.")


@asynchronous
async def encode(image: Image, *, encoder: EncoderName = None, as_json: Json = False) -> None:
    """Print the embedding of every face in a picture.

    Largest first, one JSON list of numbers a line; nothing is stored.
    """
    data = read_file(image)
    with encoders_named(read_settings(), encoder) as encoders:
        space = encoders.default
        faces = await encoders.encode(space, data)
    if as_json:
        answers = [EncodedShape(**found(face.face), embedding=face.embedding.tolist()) for face in faces]
        write_json(Encoding(faces=answers, embedding_space=SpaceShape.of(space)))
        return
    for face in faces:
        write_json(face.embedding.tolist())
    if not faces:
        write_line("There is no face in this picture.")


def _row(number: int, face: DetectedFace) -> list[object]:
    return [number, corners(face.box), face.detection_score, face.quality]
