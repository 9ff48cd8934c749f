"""`face-identity enroll`: pictures of people become references of a gallery."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import typer
from rich.progress import Progress

from service.cli.context import (
    DEFAULT_GALLERY,
    DEFAULT_TENANT,
    CommandContext,
    Gallery,
    Tenant,
    asynchronous,
    open_context,
)
from service.cli.encoders import SpaceName, encoders_for
from service.cli.exits import ExitCode
from service.cli.files import PictureFile, people_in, read_file
from service.cli.filling import gallery_to_fill
from service.cli.output import Json, progress, remark, write_json, write_table
from service.encoder.encoders import Encoders
from service.errors import InvalidRequest
from service.gallery import galleries
from service.gallery.people import Person, create_person, delete_person, find_person_named
from service.identity.enroll import DUPLICATE_PICTURE, Enrollment, EnrollmentImage, Rejection, enroll_pictures
from service.identity.review import Review

PICTURES_AT_ONCE = 16
"""Read and enrolled in one transaction: memory stays bounded, and a run that breaks off keeps what was done."""


@dataclass
class Outcome:
    """What came of one person's pictures."""

    name: str
    person_id: str | None = None
    faces: int = 0
    rejected: list[Rejection] = field(default_factory=list)

    @property
    def known(self) -> int:
        """Pictures that were references of the person before: to enroll them again is no failure."""
        return sum(one.reason == DUPLICATE_PICTURE for one in self.rejected)


@dataclass(frozen=True)
class Enrolling:
    """What the steps of one run share."""

    context: CommandContext
    encoders: Encoders
    gallery: galleries.Gallery
    several: Literal["reject", "largest"]
    bar: Progress


@asynchronous
async def enroll(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="A folder of folders (one a person), a folder, or pictures.")
    ],
    *,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Whose pictures they are.")] = None,
    gallery: Gallery = DEFAULT_GALLERY,
    tenant: Tenant = DEFAULT_TENANT,
    encoder: SpaceName = None,
    largest: Annotated[
        bool, typer.Option("--largest", help="Of several faces in a picture take the largest, instead of none.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Add people's faces to a gallery from pictures.

    A folder that holds folders: one person a folder, named as it. A folder of pictures: one person. A picture: one
    person, named as the file. Gallery and people are made where they are missing. A picture that cannot be used is
    named with the reason; exit code 3: some were rejected, 4: all. One that is a reference already is passed over.
    """
    findings = people_in(paths, name)
    if not findings.people:
        raise InvalidRequest(f"there is no picture in {', '.join(paths)}")
    rejected = [Rejection(stray.shown, "no-person", "it lies beside folders of people") for stray in findings.strays]
    async with open_context(tenant) as context:
        found = await gallery_to_fill(context, gallery, encoder)
        with encoders_for(context.settings, found.space) as encoders, progress() as bar:
            enrolling = Enrolling(context, encoders, found, "largest" if largest else "reject", bar)
            outcomes = await enroll_people(enrolling, findings.people)
    _tell(gallery, outcomes, rejected, as_json)


async def enroll_people(enrolling: Enrolling, people: dict[str, list[PictureFile]]) -> list[Outcome]:
    """Enroll every person's pictures, a bounded number in each transaction."""
    task = enrolling.bar.add_task("enrolling", total=sum(len(pictures) for pictures in people.values()))
    outcomes = []
    for name, pictures in people.items():
        outcome = Outcome(name)
        for start in range(0, len(pictures), PICTURES_AT_ONCE):
            batch = pictures[start : start + PICTURES_AT_ONCE]
            await _enroll_batch(enrolling, outcome, batch)
            enrolling.bar.update(task, advance=len(batch))
        outcomes.append(outcome)
    return outcomes


async def _enroll_batch(enrolling: Enrolling, outcome: Outcome, batch: Sequence[PictureFile]) -> None:
    pictures = [EnrollmentImage(picture.shown, read_file(picture.path)) for picture in batch]
    person, is_new = await _person_to_fill(enrolling, outcome.name)
    enrollment = Enrollment([], [])
    try:
        async with enrolling.context.session() as session:
            enrollment = await enroll_pictures(
                session,
                enrolling.encoders,
                enrolling.gallery.name,
                person.id,
                pictures,
                several=enrolling.several,
                review=Review.of(enrolling.context.settings),
                bulk=True,
            )
            await session.commit()
    finally:
        if is_new and not enrollment.faces:  # nobody is left behind without a face
            await _remove(enrolling, person)
    outcome.person_id = None if is_new and not enrollment.faces else person.id
    outcome.faces += len(enrollment.faces)
    outcome.rejected += enrollment.rejected


async def _person_to_fill(enrolling: Enrolling, name: str) -> tuple[Person, bool]:
    """The person of that name, and whether it was made just now."""
    async with enrolling.context.session() as session:
        person = await find_person_named(session, enrolling.gallery, name)
        if person is not None:
            return person, False
        person = await create_person(session, enrolling.gallery, name)
        await session.commit()
        return person, True


async def _remove(enrolling: Enrolling, person: Person) -> None:
    async with enrolling.context.session() as session:
        await delete_person(session, enrolling.gallery, person.id)
        await session.commit()


def _tell(gallery: str, outcomes: list[Outcome], strays: list[Rejection], as_json: bool) -> None:
    rejected = [*(one for outcome in outcomes for one in outcome.rejected), *strays]
    unusable = [one for one in rejected if one.reason != DUPLICATE_PICTURE]
    faces = sum(outcome.faces for outcome in outcomes)
    if as_json:
        write_json(
            {
                "gallery": gallery,
                "people": [{"id": one.person_id, "name": one.name, "faces": one.faces} for one in outcomes],
                "faces": faces,
                "rejected": [{"image": one.image, "reason": one.reason, "detail": one.detail} for one in rejected],
            }
        )
    else:
        rows = [(one.name, one.faces, one.known, len(one.rejected) - one.known) for one in outcomes]
        write_table(["person", "new faces", "known pictures", "rejected"], rows, "")
        for one in unusable:
            remark(f"rejected {one.image}: {one.reason} ({one.detail})")
        remark(f"{faces} faces were added to gallery {gallery!r}.")
    if unusable:
        any_usable = faces or len(rejected) > len(unusable)
        raise typer.Exit(ExitCode.PARTLY if any_usable else ExitCode.UNUSABLE_INPUT)
