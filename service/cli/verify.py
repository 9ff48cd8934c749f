"""`face-identity verify` and `compare`: decide whether two faces match (1:1). The exit code tells the decision too."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.context import asynchronous, open_context, read_settings
from service.cli.encoders import EncoderName, encoders_for, encoders_named
from service.cli.exits import ExitCode
from service.cli.files import check_picture, read_file
from service.cli.options import DEFAULT_GALLERY, DEFAULT_TENANT, GalleryName, Image, TenantName, Threshold
from service.cli.output import Json, write_json, write_line
from service.cli.people import WhichPerson, which_person

if TYPE_CHECKING:
    from service.identity.verify import Verification


@asynchronous
async def verify(
    person: WhichPerson,
    image: Image,
    *,
    threshold: Threshold = None,
    gallery: GalleryName = DEFAULT_GALLERY,
    tenant: TenantName = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Decide whether an image shows one person of the gallery (1:1).

    Only the largest face of the image is verified. Exit code 0: it does, 1: it does not.
    """
    from service.gallery.galleries import find_gallery
    from service.identity.review import Review
    from service.identity.verify import verify_picture

    data = read_file(image)
    async with open_context(tenant) as context, context.session() as session:
        place = await find_gallery(session, gallery)
        claimed = await which_person(session, place, person)
        await session.rollback()  # hold no connection while the models load
        with encoders_for(context.settings, place.space) as encoders:
            review = Review.of(context.settings)
            verification = await verify_picture(
                session, encoders, gallery, claimed.id, data, threshold=threshold, review=review
            )
    _print_verification(verification, claimed.name, as_json)


@asynchronous
async def compare(
    first: Annotated[str, typer.Argument(metavar="IMAGE", help="An image file.")],
    second: Annotated[str, typer.Argument(metavar="IMAGE", help="Another image file.")],
    *,
    threshold: Threshold = None,
    encoder: EncoderName = None,
    as_json: Json = False,
) -> None:
    """Decide whether two images show the same person.

    Only the largest face of each image is compared. Nothing is stored. Exit code 0: they do, 1: they do not.
    """
    from service.identity.review import Review
    from service.identity.verify import compare_pictures

    images = read_file(first), read_file(second)
    settings = read_settings()
    with encoders_named(settings, encoder) as encoders:
        for path, data in zip((first, second), images, strict=True):
            await check_picture(encoders, path, data)
        verification = await compare_pictures(encoders, *images, threshold=threshold, review=Review.of(settings))
    _print_verification(verification, "the same person", as_json, is_comparison=True)


def _print_verification(
    verification: "Verification", claim: str, as_json: bool, *, is_comparison: bool = False
) -> None:
    if as_json:
        from service.api.recognition_answers import ComparisonShape, VerificationShape

        write_json(ComparisonShape.of_two(verification) if is_comparison else VerificationShape.of(verification))
    else:
        verb = "is" if verification.verified else "is not"
        numbers = f"similarity {verification.similarity:.3f}, threshold {verification.threshold:.3f}"
        write_line(f"This {verb} {claim}: {numbers}.")
    if not verification.verified:
        raise typer.Exit(ExitCode.NO)
