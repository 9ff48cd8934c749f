"""`face-identity recognize`: who is in this picture."""

from pathlib import Path
from typing import Annotated

import typer

from service.api.recognition import RecognitionShape
from service.cli.context import DEFAULT_GALLERY, DEFAULT_TENANT, Gallery, Tenant, asynchronous, open_context
from service.cli.encoders import encoders_for
from service.cli.files import read_embeddings, read_file
from service.cli.output import Json, remark, write_json, write_table
from service.encoder.contract import Box
from service.encoder.encoders import Encoders
from service.encoder.images.annotate import annotate
from service.errors import InvalidRequest
from service.gallery.galleries import find_gallery
from service.identity.recognize import Identification, IdentifiedFace, recognize_embeddings, recognize_picture
from service.identity.review import Review

Threshold = Annotated[
    float | None, typer.Option("--threshold", min=0.0, max=1.0, help="Similarity from which faces match.")
]


@asynchronous
async def recognize(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A picture file; - reads standard input.")],
    *,
    annotated: Annotated[
        Path | None, typer.Option("--annotate", metavar="OUT.jpg", help="Write the picture with boxes and names here.")
    ] = None,
    embedding: Annotated[
        bool, typer.Option("--embedding", help="IMAGE is a JSON file of one embedding or a list of them.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="Candidates a face.")] = 5,
    threshold: Threshold = None,
    gallery: Gallery = DEFAULT_GALLERY,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Say who is in a picture (1:N).

    Every face with its match, or none, and the nearest candidates whatever the threshold.
    """
    if embedding and annotated is not None:
        raise InvalidRequest("an embedding has no picture to annotate")
    data = read_file(image)
    async with open_context(tenant) as context, context.session() as session:
        if embedding:
            probes = read_embeddings(data, image)
            recognition = await recognize_embeddings(session, gallery, probes, limit=limit, threshold=threshold)
        else:
            space = (await find_gallery(session, gallery)).space
            await session.rollback()
            with encoders_for(context.settings, space) as encoders:
                review = Review.of(context.settings)
                recognition = await recognize_picture(
                    session,
                    encoders,
                    gallery,
                    data,
                    limit=limit,
                    threshold=threshold,
                    review=review,
                )
                if annotated is not None:
                    annotated.write_bytes(await annotated_picture(encoders, data, recognition))
    _tell(recognition, as_json)


async def annotated_picture(encoders: Encoders, data: bytes, recognition: Identification) -> bytes:
    """The picture as JPEG, each face in a box that says who it is: green, or amber where it is nobody."""
    faces = [recognized for recognized in recognition.faces if recognized.face is not None]
    boxes = [(recognized.face.box, label_of(recognized)) for recognized in faces if recognized.face is not None]
    unmatched = {place for place, recognized in enumerate(faces) if recognized.decision.match is None}
    return annotate(await encoders.decode(data), boxes, unmatched=unmatched)


def label_of(recognized: IdentifiedFace) -> str:
    """What stands over a face: the person and how similar, or that it is nobody of the gallery."""
    match = recognized.decision.match
    return "no match" if match is None else f"{match.name} {match.similarity:.2f}"


def _tell(recognition: Identification, as_json: bool) -> None:
    if as_json:
        write_json(RecognitionShape.of(recognition))
        return
    rows = [_row(number, face) for number, face in enumerate(recognition.faces, start=1)]
    headings = ["face", "left, top, right, bottom", "decision", "person", "similarity", "nearest"]
    write_table(headings, rows, "There is no face in this picture.")
    remark(f"Faces match from a similarity of {recognition.threshold:.3f}.")


def _row(number: int, recognized: IdentifiedFace) -> list[object]:
    decision = recognized.decision
    place = "" if recognized.face is None else corners(recognized.face.box)
    name = None if decision.match is None else decision.match.name
    similarity = None if decision.match is None else decision.match.similarity
    nearest = [f"{candidate.name} {candidate.similarity:.3f}" for candidate in decision.candidates]
    return [number, place, decision.outcome, name, similarity, ", ".join(nearest)]


def corners(box: Box) -> str:
    """A box as people read it, in whole pixels."""
    return ", ".join(str(round(side)) for side in (box.left, box.top, box.right, box.bottom))
