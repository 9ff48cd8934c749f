"""`face-identity recognize`: identify the people in an image (1:N)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.context import CommandContext, asynchronous, open_context
from service.cli.encoders import encoders_for
from service.cli.files import read_embeddings, read_file
from service.cli.options import (
    DEFAULT_GALLERY,
    DEFAULT_TENANT,
    GalleryNames,
    Image,
    MetadataFilter,
    TenantName,
    Threshold,
    json_object,
)
from service.cli.output import Json, remark, write_json, write_table
from service.errors import InvalidRequest
from service.identity.limits import MAXIMUM_MEAN_OF

if TYPE_CHECKING:
    from service.encoder.contract import Box
    from service.encoder.encoders import Encoders
    from service.gallery.search.search import Candidate
    from service.identity.recognize import Identification, IdentifiedFace


@asynchronous
async def recognize(
    image: Image,
    *,
    annotated: Annotated[
        Path | None,
        typer.Option("--annotate", metavar="OUT.jpg", help="Write the image with boxes and names to this file."),
    ] = None,
    embedding: Annotated[
        bool, typer.Option("--embedding", help="IMAGE is a JSON file with one embedding or a list of embeddings.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="Candidates per face.")] = 5,
    threshold: Threshold = None,
    metadata: MetadataFilter = None,
    mean_of: Annotated[
        int,
        typer.Option("--mean-of", min=1, max=MAXIMUM_MEAN_OF, help="Compare the mean of this many nearest references."),
    ] = 1,
    galleries: GalleryNames = None,
    tenant: TenantName = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Identify the people in an image (1:N).

    Prints every face with its match, or no match, and the nearest candidates, also below the threshold. With several
    galleries, which must have one embedding space, every candidate names its gallery.
    """
    from service.identity.recognize import recognize_embeddings

    if embedding and annotated is not None:
        raise InvalidRequest("--annotate needs an image; --embedding reads none")
    data = read_file(image)
    names = galleries or [DEFAULT_GALLERY]
    where = names[0] if len(names) == 1 else names
    options: dict[str, Any] = {
        "limit": limit,
        "threshold": threshold,
        "metadata": json_object(metadata),
        "mean_of": mean_of,
    }
    async with open_context(tenant) as context:
        if embedding:
            probes = read_embeddings(data, image)
            async with context.session() as session:
                recognition = await recognize_embeddings(session, where, probes, **options)
        else:
            recognition, drawn = await _recognize_image(context, where, data, options, draws=annotated is not None)
            if annotated is not None:
                annotated.write_bytes(drawn)
    _print_recognition(recognition, as_json)


async def _recognize_image(
    context: CommandContext, where: str | list[str], data: bytes, options: dict[str, Any], *, draws: bool
) -> "tuple[Identification, bytes]":
    """Recognize the faces of an image; the second value is the annotated image, empty unless `draws`."""
    from service.gallery.galleries import find_gallery
    from service.identity.recognize import recognize_picture
    from service.identity.review import Review

    async with context.session() as session:
        space = (await find_gallery(session, where if isinstance(where, str) else where[0])).space
        await session.rollback()  # hold no connection while the models load
        with encoders_for(context.settings, space) as encoders:
            review = Review.of(context.settings)
            recognition = await recognize_picture(session, encoders, where, data, review=review, **options)
            drawn = await annotated_picture(encoders, data, recognition) if draws else b""
    return recognition, drawn


async def annotated_picture(encoders: "Encoders", data: bytes, recognition: "Identification") -> bytes:
    """Draw a box and a label over each face: green for a match, amber without one. Returns a JPEG."""
    from service.encoder.images.annotate import annotate

    faces = [recognized for recognized in recognition.faces if recognized.face is not None]
    boxes = [(recognized.face.box, label_of(recognized)) for recognized in faces if recognized.face is not None]
    unmatched = {index for index, recognized in enumerate(faces) if recognized.decision.match is None}
    return annotate(await encoders.decode(data), boxes, unmatched=unmatched)


def label_of(recognized: "IdentifiedFace") -> str:
    """The label of a face: the person and the similarity, or "no match"."""
    match = recognized.decision.match
    return "no match" if match is None else f"{match.name} {match.similarity:.2f}"


def _print_recognition(recognition: "Identification", as_json: bool) -> None:

    if as_json:
        from service.api.recognition import RecognitionShape

        write_json(RecognitionShape.of(recognition))
        return
    rows = [_row(number, face) for number, face in enumerate(recognition.faces, start=1)]
    headings = ["face", "left, top, right, bottom", "decision", "person", "similarity", "nearest"]
    write_table(headings, rows, "The image shows no face.")
    remark(f"Faces match from a similarity of {recognition.threshold:.3f}.")


def _row(number: int, recognized: "IdentifiedFace") -> list[object]:
    decision = recognized.decision
    box = "" if recognized.face is None else corners(recognized.face.box)
    name = None if decision.match is None else _name_of(decision.match)
    similarity = None if decision.match is None else decision.match.similarity
    nearest = [f"{_name_of(candidate)} {candidate.similarity:.3f}" for candidate in decision.candidates]
    return [number, box, decision.outcome, name, similarity, ", ".join(nearest)]


def _name_of(candidate: "Candidate") -> str:
    return candidate.name if candidate.gallery is None else f"{candidate.name} ({candidate.gallery})"


def corners(box: "Box") -> str:
    """Format a box for people, in whole pixels."""
    return ", ".join(str(round(side)) for side in (box.left, box.top, box.right, box.bottom))
