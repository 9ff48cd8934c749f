"""`face-identity recognize`: identify the people in an image (1:N)."""

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.context import CommandContext, asynchronous, open_context, read_settings
from service.cli.encoders import encoders_for
from service.cli.exits import ExitCode
from service.cli.files import check_drawing, read_embeddings, read_file, tell_missing_characters
from service.cli.options import (
    DEFAULT_GALLERY,
    DEFAULT_TENANT,
    GalleryNames,
    MetadataFilter,
    TenantName,
    Threshold,
    json_object,
)
from service.cli.output import Json, progress, remark, write_json, write_table
from service.cli.watch import DEFAULT_RATE, is_video, open_video, recognize_video
from service.errors import InvalidRequest, ServiceError
from service.identity.limits import MAXIMUM_MEAN_OF

if TYPE_CHECKING:
    from service.encoder.contract import Box
    from service.encoder.encoders import Encoders
    from service.encoder.images.annotate import Format
    from service.gallery.search.search import Candidate
    from service.identity.people_folders import PeopleFolders
    from service.identity.recognize import Identification, IdentifiedFace


@asynchronous
async def recognize(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...", help="Image files and folders of images, or one video; - reads standard input."
        ),
    ],
    *,
    annotated: Annotated[
        Path | None,
        typer.Option(
            "--annotate",
            metavar="OUT",
            help="Write the image with boxes and names to this .jpg, .png or .webp file, a video to .mp4 or .mkv.",
        ),
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
    """Identify the people in images (1:N).

    Prints every face with its match, or no match, and the nearest other candidates, also below the threshold. With
    several galleries, which must have one embedding space, every candidate names its gallery. For several images or a
    folder --json prints one line per image, with its path; exit code 3: some images cannot be read, 4: none can.
    A video is treated as `watch` does.
    """
    if len(images) == 1 and is_video(images[0]) and not embedding:
        names = galleries or [DEFAULT_GALLERY]
        where = names[0] if len(names) == 1 else names
        options = {"threshold": threshold, "metadata": json_object(metadata), "mean_of": mean_of}
        opened = open_video(images[0], DEFAULT_RATE, annotated, read_settings())
        async with opened as video, open_context(tenant) as context:
            await recognize_video(context, video, where, options, as_json)
        return
    several = _are_several(images)
    if embedding and annotated is not None:
        raise InvalidRequest("--annotate needs an image; --embedding reads none")
    if several and (embedding or annotated is not None):
        raise InvalidRequest(f"{'--embedding' if embedding else '--annotate'} takes one file, not several")
    drawing = None if annotated is None else check_drawing(annotated)
    options = {"limit": limit, "threshold": threshold, "metadata": json_object(metadata), "mean_of": mean_of}
    names = galleries or [DEFAULT_GALLERY]
    where = names[0] if len(names) == 1 else names
    if several:
        found = _find_images(images)
        async with open_context(tenant) as context:
            await _recognize_all(_Search(context, where, options), found, as_json)
        return
    data = read_file(images[0])
    async with open_context(tenant) as context:
        search = _Search(context, where, options)
        if embedding:
            recognition = await search.of_embeddings(read_embeddings(data, images[0]))
        else:
            async with search.encoders() as encoders:
                recognition = await search.of_image(encoders, data)
                if annotated is not None:
                    annotated.write_bytes(await annotated_picture(encoders, data, recognition, drawing or "JPEG"))
    _print_recognition(recognition, as_json)


@dataclass(frozen=True)
class _Search:
    """What the images of a command share: the galleries, and the options of the search."""

    context: CommandContext
    where: str | list[str]
    options: dict[str, Any]

    @contextlib.asynccontextmanager
    async def encoders(self) -> "AsyncIterator[Encoders]":
        """Open the encoder of the galleries."""
        from service.gallery.galleries import find_gallery

        async with self.context.session() as session:
            first = self.where if isinstance(self.where, str) else self.where[0]
            space = (await find_gallery(session, first)).space
        with encoders_for(self.context.settings, space) as encoders:
            yield encoders

    async def of_image(self, encoders: "Encoders", data: bytes) -> "Identification":
        """Recognize the faces of an image."""
        from service.identity.recognize import recognize_picture
        from service.identity.review import Review

        review = Review.of(self.context.settings)
        async with self.context.session() as session:
            return await recognize_picture(session, encoders, self.where, data, review=review, **self.options)

    async def of_embeddings(self, probes: list[list[float]]) -> "Identification":
        """Recognize embeddings."""
        from service.identity.recognize import recognize_embeddings

        async with self.context.session() as session:
            return await recognize_embeddings(session, self.where, probes, **self.options)


def _are_several(paths: list[str]) -> bool:
    return len(paths) > 1 or os.path.isdir(paths[0])


def _find_images(paths: list[str]) -> "PeopleFolders":
    """All images of files and folders, as images of one person. Raises NotFound, or InvalidRequest if there is none."""
    from service.identity.people_folders import find_people

    found = find_people(paths, name=_ALL)
    if not found.people and not found.rejected:
        raise InvalidRequest(f"{', '.join(paths)}: there is no image")
    return found


_ALL = "all images"


async def _recognize_all(search: _Search, found: "PeopleFolders", as_json: bool) -> None:
    """Recognize every image. An image that cannot be read is reported, and the others are recognized."""
    from service.errors import ImageTooLarge, UnreadableImage, UnsupportedImageFormat
    from service.identity.people_folders import printable_path, read_image_file

    failed: list[tuple[str, ServiceError]] = [(file.shown, file.kind(file.detail)) for file in found.rejected]
    rows: list[list[object]] = []
    files = found.people.get(_ALL, [])
    async with search.encoders() as encoders:
        with progress(quiet=as_json) as bar:
            for file in bar.track(files, description="recognizing"):
                shown = printable_path(file.path)
                try:
                    recognition = await search.of_image(encoders, read_image_file(file.path))
                except (UnreadableImage, UnsupportedImageFormat, ImageTooLarge) as error:
                    failed.append((shown, error))
                    continue
                if as_json:
                    _print_line(shown, recognition)
                rows += [[shown, *_row(number, face)] for number, face in enumerate(recognition.faces, start=1)]
                rows += [] if recognition.faces else [[shown, None, None, "no face"]]
    _print_all(rows, failed, as_json)
    if failed:
        raise typer.Exit(ExitCode.PARTLY if len(failed) < len(files) + len(found.rejected) else ExitCode.UNUSABLE_INPUT)


def _print_line(image: str, recognition: "Identification") -> None:
    from service.api.recognition_answers import RecognitionShape

    write_json({"image": image} | RecognitionShape.of(recognition).model_dump(mode="json"))


def _print_all(rows: list[list[object]], failed: list[tuple[str, ServiceError]], as_json: bool) -> None:
    if as_json:
        for image, error in failed:
            fields = {"slug": error.slug, "title": error.title, "detail": error.detail}
            write_json({"image": image, "error": fields})
        return
    if rows:
        write_table(["image", *_HEADINGS], [[*row, *[None] * (1 + len(_HEADINGS) - len(row))] for row in rows], "")
    for image, error in failed:
        remark(f"{image}: {error.title}{': ' if error.detail else ''}{error.detail}")


async def annotated_picture(
    encoders: "Encoders", data: bytes, recognition: "Identification", format: "Format" = "JPEG"
) -> bytes:
    """Draw a box and a label over each face: green for a match, amber without one. Returns the file."""
    from service.encoder.images.annotate import annotate

    faces = [recognized for recognized in recognition.faces if recognized.face is not None]
    boxes = [(recognized.face.box, label_of(recognized)) for recognized in faces if recognized.face is not None]
    unmatched = {index for index, recognized in enumerate(faces) if recognized.decision.match is None}
    tell_missing_characters([label for _, label in boxes])
    return annotate(await encoders.decode(data), boxes, unmatched=unmatched, format=format)


def label_of(recognized: "IdentifiedFace") -> str:
    """The label of a face: the person and the similarity, or "no match"."""
    match = recognized.decision.match
    return "no match" if match is None else f"{match.name} {match.similarity:.2f}"


def _print_recognition(recognition: "Identification", as_json: bool) -> None:

    if as_json:
        from service.api.recognition_answers import RecognitionShape

        write_json(RecognitionShape.of(recognition))
        return
    rows = [_row(number, face) for number, face in enumerate(recognition.faces, start=1)]
    write_table(_HEADINGS, rows, "The image shows no face.")
    remark(f"Faces match from a similarity of {recognition.threshold:.3f}.")


_HEADINGS = ["face", "left, top, right, bottom", "person", "similarity", "nearest others"]
_SHOWN_OTHERS = 2
"""Candidates besides the match in the table; --json lists all of --limit."""


def _row(number: int, recognized: "IdentifiedFace") -> list[object]:
    decision = recognized.decision
    box = "" if recognized.face is None else corners(recognized.face.box)
    refused = "" if recognized.objection is None else f" ({recognized.objection.reason})"
    unknown = decision.outcome.replace("_", " ") + refused
    name = unknown if decision.match is None else _name_of(decision.match)
    similarity = None if decision.match is None else decision.match.similarity
    others = [candidate for candidate in decision.candidates if candidate is not decision.match][:_SHOWN_OTHERS]
    nearest = [f"{_name_of(candidate)} {candidate.similarity:.2f}" for candidate in others]
    return [number, box, name, similarity, ", ".join(nearest)]


def _name_of(candidate: "Candidate") -> str:
    return candidate.name if candidate.gallery is None else f"{candidate.name} ({candidate.gallery})"


def corners(box: "Box") -> str:
    """Format a box for people, in whole pixels."""
    return ", ".join(str(round(side)) for side in (box.left, box.top, box.right, box.bottom))
