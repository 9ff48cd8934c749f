"""`face-identity enroll`: add references to a gallery from images of people."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.cli.context import CommandContext, asynchronous, open_context
from service.cli.encoders import SpaceName, encoders_for, gallery_to_fill
from service.cli.exits import ExitCode
from service.cli.options import DEFAULT_GALLERY, DEFAULT_TENANT, GalleryName, TenantName
from service.cli.output import Json, progress, remark, write_json, write_table
from service.errors import DuplicatePicture, InvalidRequest, UnreadableImage

if TYPE_CHECKING:
    from rich.progress import Progress

    from service.encoder.encoders import Encoders
    from service.gallery.galleries import Gallery
    from service.gallery.people import Person
    from service.identity.enroll import EnrollmentImage, EnrollmentWarning, Rejection
    from service.identity.people_folders import ImageFile

IMAGES_PER_TRANSACTION = 16
"""Bounds the memory of one batch, and limits the loss of an interrupted run to one batch."""


@dataclass
class Outcome:
    """The result for the images of one person."""

    name: str
    person_id: str | None = None
    faces: int = 0
    rejected: "list[Rejection]" = field(default_factory=list)
    warnings: "list[EnrollmentWarning]" = field(default_factory=list)

    @property
    def known(self) -> int:
        """Number of images that already were references of the person; enrolling them again is not a failure."""
        return sum(rejection.kind is DuplicatePicture for rejection in self.rejected)


@dataclass(frozen=True)
class EnrollRun:
    """What the steps of one run share."""

    context: CommandContext
    encoders: "Encoders"
    gallery: "Gallery"
    several: Literal["reject", "largest"]
    bar: "Progress"
    outcomes: list[Outcome] = field(default_factory=list)


@asynchronous
async def enroll(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="A folder of folders (one per person), a folder, or images.")
    ],
    *,
    name: Annotated[str | None, typer.Option("--name", "-n", help="The person that all images show.")] = None,
    gallery: GalleryName = DEFAULT_GALLERY,
    tenant: TenantName = DEFAULT_TENANT,
    encoder: SpaceName = None,
    largest: Annotated[
        bool, typer.Option("--largest", help="If an image shows several faces, enroll the largest instead of none.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Add people's faces to a gallery from images.

    A folder of folders holds one person per folder. A folder of images is one person. An image is one person, named
    after the file. The gallery and the people are created if they are missing. Rejected images are listed with the
    reason; exit code 3: some images were rejected, 4: all. Images that already are references are skipped.
    """
    from service.identity.enroll import Rejection
    from service.identity.people_folders import find_people, printable_path

    found = find_people(paths, name)
    for folder in found.skipped:
        remark(f"skipped the folder {folder}")
    rejected = [Rejection(file.shown, file.kind, file.detail) for file in found.rejected]
    if not found.people and not rejected:
        raise InvalidRequest(f"there is no image in {', '.join(printable_path(Path(path)) for path in paths)}")
    async with open_context(tenant) as context, gallery_to_fill(context, gallery, encoder) as target:
        with encoders_for(context.settings, target.space) as encoders, progress() as bar:
            run = EnrollRun(context, encoders, target, "largest" if largest else "reject", bar)
            try:
                await enroll_people(run, found.people)
            except BaseException:
                _tell_what_is_kept(run)
                raise
    _print_outcomes(gallery, run.outcomes, rejected, as_json)


async def enroll_people(run: EnrollRun, people: "dict[str, list[ImageFile]]") -> None:
    """Enroll the images of every person, at most IMAGES_PER_TRANSACTION in one transaction."""
    task = run.bar.add_task("enrolling", total=sum(len(images) for images in people.values()))
    for name, images in people.items():
        outcome = Outcome(name)
        run.outcomes.append(outcome)
        for start in range(0, len(images), IMAGES_PER_TRANSACTION):
            batch = images[start : start + IMAGES_PER_TRANSACTION]
            await _enroll_batch(run, outcome, batch)
            run.bar.update(task, advance=len(batch))


async def _enroll_batch(run: EnrollRun, outcome: Outcome, batch: "Sequence[ImageFile]") -> None:
    from service.identity.enroll import Enrollment, enroll_pictures
    from service.identity.review import Review

    images, unread = _read(batch)
    outcome.rejected += unread
    if not images:
        return
    person, is_new = await _person_to_fill(run, outcome.name)
    enrollment = Enrollment([], [])
    try:
        async with run.context.session() as session:
            enrollment = await enroll_pictures(
                session,
                run.encoders,
                run.gallery.name,
                person.id,
                images,
                several=run.several,
                review=Review.of(run.context.settings),
                bulk=True,
            )
            await session.commit()
    finally:
        if is_new and not enrollment.faces:  # leave no person without a face
            await _remove(run, person)
    outcome.person_id = None if is_new and not enrollment.faces else person.id
    outcome.faces += len(enrollment.faces)
    outcome.rejected += enrollment.rejected
    outcome.warnings += enrollment.warnings


def _read(batch: "Sequence[ImageFile]") -> "tuple[list[EnrollmentImage], list[Rejection]]":
    """The contents of the files, and a rejection for each file that cannot be read."""
    from service.identity.enroll import EnrollmentImage, Rejection
    from service.identity.people_folders import read_image_file

    images, unread = [], []
    for file in batch:
        try:
            images.append(EnrollmentImage(file.shown, read_image_file(file.path)))
        except UnreadableImage as error:
            unread.append(Rejection(file.shown, UnreadableImage, error.detail))
    return images, unread


def _tell_what_is_kept(run: EnrollRun) -> None:
    """Say on standard error what an interrupted or failed run has stored, and how to go on."""
    faces = sum(outcome.faces for outcome in run.outcomes)
    people = sum(outcome.faces > 0 for outcome in run.outcomes)
    if not faces:
        remark("Stopped before anything was stored.")
        return
    remark(f"Stopped before the end. Gallery {run.gallery.name!r} keeps {faces} new faces of {people} people.")
    remark("To go on, run the same command again: it skips images that are enrolled already.")


async def _person_to_fill(run: EnrollRun, name: str) -> "tuple[Person, bool]":
    """Find or create the person of that name. The second value is True if the person is new."""
    from service.gallery.people import create_person, find_person_named

    async with run.context.session() as session:
        person = await find_person_named(session, run.gallery, name)
        if person is not None:
            return person, False
        person = await create_person(session, run.gallery, name)
        await session.commit()
        return person, True


async def _remove(run: EnrollRun, person: "Person") -> None:
    from service.gallery.people import delete_person

    async with run.context.session() as session:
        await delete_person(session, run.gallery, person.id)
        await session.commit()


def _print_outcomes(gallery: str, outcomes: list[Outcome], rejected: "list[Rejection]", as_json: bool) -> None:
    rejected = [*(rejection for outcome in outcomes for rejection in outcome.rejected), *rejected]
    unusable = [rejection for rejection in rejected if rejection.kind is not DuplicatePicture]
    warnings = [warning for outcome in outcomes for warning in outcome.warnings]
    faces = sum(outcome.faces for outcome in outcomes)
    if as_json:
        write_json(
            {
                "gallery": gallery,
                "people": [
                    {"id": outcome.person_id, "name": outcome.name, "faces": outcome.faces, "known": outcome.known}
                    for outcome in outcomes
                ],
                "faces": faces,
                "rejected": [_note(note) for note in rejected],
                "warnings": [_note(note) for note in warnings],
            }
        )
    else:
        rows = [(each.name, each.faces, each.known, len(each.rejected) - each.known) for each in outcomes]
        write_table(["person", "new faces", "known images", "rejected"], rows, "")
        for note in unusable:
            remark(f"rejected {note.image}: {note.reason} ({note.detail})")
        for warning in warnings:
            remark(f"warning {warning.image}: {warning.detail}")
        remark(f"Added {faces} faces to gallery {gallery!r}.")
    if unusable:
        any_usable = faces or len(rejected) > len(unusable)
        raise typer.Exit(ExitCode.PARTLY if any_usable else ExitCode.UNUSABLE_INPUT)


def _note(note: "Rejection | EnrollmentWarning") -> dict[str, str]:
    return {"image": note.image, "reason": note.reason, "detail": note.detail}
