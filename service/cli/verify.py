"""`face-identity verify` and `compare`: is this that person? The exit code says it too."""

from typing import Annotated

import typer

from service.api.recognition import VerificationShape
from service.cli.context import (
    DEFAULT_GALLERY,
    DEFAULT_TENANT,
    Gallery,
    Tenant,
    asynchronous,
    open_context,
    read_settings,
)
from service.cli.encoders import EncoderName, encoders_for, encoders_named
from service.cli.exits import ExitCode
from service.cli.files import check_picture, read_file
from service.cli.output import Json, write_json, write_line
from service.cli.people import WhichPerson, which_person
from service.cli.recognize import Threshold
from service.gallery.galleries import find_gallery
from service.identity.review import Review
from service.identity.verify import Verification, compare_pictures, verify_picture


@asynchronous
async def verify(
    person: WhichPerson,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A picture file; - reads standard input.")],
    *,
    threshold: Threshold = None,
    gallery: Gallery = DEFAULT_GALLERY,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Say whether a picture shows one person of the gallery (1:1).

    Its largest face counts. Exit code 0: yes, 1: no.
    """
    data = read_file(image)
    async with open_context(tenant) as context, context.session() as session:
        found = await find_gallery(session, gallery)
        claimed = await which_person(session, found, person)
        await session.rollback()
        with encoders_for(context.settings, found.space) as encoders:
            review = Review.of(context.settings)
            verification = await verify_picture(
                session, encoders, gallery, claimed.id, data, threshold=threshold, review=review
            )
    _tell(verification, claimed.name, as_json)


@asynchronous
async def compare(
    first: Annotated[str, typer.Argument(metavar="IMAGE", help="A picture file.")],
    second: Annotated[str, typer.Argument(metavar="IMAGE", help="Another picture file.")],
    *,
    threshold: Threshold = None,
    encoder: EncoderName = None,
    as_json: Json = False,
) -> None:
    """Say whether two pictures show the same person.

    Their largest faces count; nothing is stored. Exit code 0: yes, 1: no.
    """
    pictures = read_file(first), read_file(second)
    settings = read_settings()
    with encoders_named(settings, encoder) as encoders:
        for path, data in zip((first, second), pictures, strict=True):
            await check_picture(encoders, path, data)
        verification = await compare_pictures(encoders, *pictures, threshold=threshold, review=Review.of(settings))
    _tell(verification, "the same person", as_json)


def _tell(verification: Verification, claim: str, as_json: bool) -> None:
    if as_json:
        write_json(VerificationShape.of(verification))
    else:
        word = "is" if verification.verified else "is not"
        measured = f"similarity {verification.similarity:.3f}, threshold {verification.threshold:.3f}"
        write_line(f"This {word} {claim}: {measured}.")
    if not verification.verified:
        raise typer.Exit(ExitCode.NO)
